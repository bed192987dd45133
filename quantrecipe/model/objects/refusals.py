"""What file systems of fsspec raise, as errors for people; and which of it is worth another try.

Each package has exceptions of its own. They are told apart by what they have in common: Python's OSErrors, the HTTP
status that many carry, and that those of missing keys say so in their names.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from quantrecipe.errors import ModelError, QuantrecipeError

__all__ = ["lacks_folder", "lacks_rights", "refusals", "shown", "worth_another_try"]

_BUSY = (408, 425, 429)
_FINAL = {
    errno.EINVAL, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EISDIR, errno.ENOTDIR,
    errno.ENAMETOOLONG, getattr(errno, "EREMCHG", errno.EINVAL),
}  # fmt: skip
"""What s3fs makes of refusals that stay refusals: of a range, of a method, of another region."""
_MISTAKES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    ImportError,
)
_CREDENTIALS = (
    "credential",
    "profilenotfound",
    "tokenretrieval",
    "unauthorized",
    "refresherror",
    "authentication",
)
_FORBIDDEN = "Forbidden: "
"""So begins what gcsfs makes of 403: an OSError without a number."""
_NO_LOGIN = ("530 ", "532 ")  # FTP: not logged in
_NO_FILE = "550 "
_FTP_FINAL = "error_perm"  # ftplib's, for 5xx
_SHOWN = 200


def worth_another_try(error: BaseException) -> bool:
    """True for a connection that broke, and a server that has no time; False for what would be said again."""
    if not isinstance(error, Exception) or isinstance(error, QuantrecipeError):
        return False
    error = _behind(error)
    if lacks_rights(error) or isinstance(error, FileNotFoundError):
        return False
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _BUSY
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if type(error).__name__ == _FTP_FINAL:
        return False
    if isinstance(error, OSError):
        return error.errno not in _FINAL
    return not isinstance(error, _MISTAKES)


@contextmanager
def refusals(address: object) -> Iterator[None]:
    """What goes wrong between here and there becomes a ModelError that says what to do. ImportError passes."""
    try:
        yield
    except (QuantrecipeError, ImportError):
        raise
    except Exception as error:  # anything may come from a package of anybody's
        raise _told(address, _behind(error)) from error


def _told(address: object, error: Exception) -> ModelError:
    said = shown(error)
    if lacks_rights(error):
        return ModelError(
            f"{address} isn't shown to you: {said}",
            "check its name, and the keys of this machine: its store's own program (aws, gcloud, az) has to see it",
        )
    if isinstance(error, FileNotFoundError) or _status(error) == 404:
        return ModelError(f"{address}: there is nothing of that name", "check it, and which account you use")
    if worth_another_try(error):
        return ModelError(
            f"{address} can't be reached: {said}",
            "check the connection, and run the same command: it goes on",
        )
    return ModelError(f"{address} can't be read: {said}", "download it, and give the file or folder")


def lacks_rights(error: Exception) -> bool:
    """True where there are no keys, or they open something else."""
    error = _behind(error)
    name, text = type(error).__name__.lower(), str(error)
    return (
        isinstance(error, PermissionError)
        or _status(error) in (401, 403)
        or any(it in name for it in _CREDENTIALS)
        or (type(error) is OSError and text.startswith(_FORBIDDEN))
        or (type(error) is ValueError and "credentials" in text)  # adlfs, which has found none
        or (type(error).__name__ == _FTP_FINAL and text.startswith(_NO_LOGIN))
        or (name == "sshexception" and "authentication" in text)  # paramiko, which has found no key
    )


def lacks_folder(error: Exception) -> bool:
    """True where there is no such bucket or folder to write to. WebDAV says 409 (RFC 4918, 9.7.1)."""
    error = _behind(error)
    if type(error).__name__ == _FTP_FINAL:
        return str(error).startswith(_NO_FILE)
    return isinstance(error, FileNotFoundError) or _status(error) in (404, 409)


def _behind(error: Exception) -> Exception:
    """What was raised first: fsspec says of whatever it meets under http:// that there is no such file, and adlfs of
    whatever it meets while it writes that a block can't be uploaded.
    """
    cause = error.__cause__
    if not isinstance(cause, Exception):
        return error
    if type(error) is RuntimeError:
        return _behind(cause)
    if not isinstance(error, FileNotFoundError):
        return error
    status = _status(cause)
    known = status != 404 if status is not None else isinstance(cause, OSError)
    return cause if known and not isinstance(cause, FileNotFoundError) else error


def _status(error: Exception) -> int | None:
    """The HTTP status that it carries; None where it has none."""
    for name in ("status", "status_code", "code"):
        found = getattr(error, name, None)
        if isinstance(found, int) and not isinstance(found, bool) and 400 <= found < 600:
            return found
        if isinstance(found, str) and found.isdigit() and 400 <= int(found) < 600:
            return int(found)
    return None


def shown(error: Exception) -> str:
    """What an error says, in a line, and without a signature: URLs end at their question mark."""
    words = [
        word.partition("?")[0] + "?…" if "://" in word and "?" in word else word
        for word in str(error).split()
    ]
    text = "".join(it if it.isprintable() else "?" for it in " ".join(words))
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
