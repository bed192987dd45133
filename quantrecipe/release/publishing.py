"""A release folder on the Hugging Face hub: what is there already, and bringing the rest there.

    local_files(folder)           what is to be published, with hashes that hold
    compared(files, listing)      each file: new, changed, or there
    publish(…)                    uploads what isn't there, and commits all of it at once

Large files are uploaded first, one by one. The hub keeps what it has got even before it is committed, and knows it by
its hash: after a break only what is missing is sent. One commit then shows all files; nobody sees half a release.
The token goes to the hub alone, whatever address it names for uploads.

How the bytes travel is huggingface_hub's choice: with hf_xet, which it requires on most machines, in chunks, of which
only those are sent that the hub doesn't have; else, or with HF_HUB_DISABLE_XET=1, file by file. A repository that isn't
there has to be made before anything can be sent. So what can be refused is asked before: the card's front matter. If
it breaks later, the repository is there and empty, which is told, and a second run goes on with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from quantrecipe.errors import ModelError, OutputError, Problem
from quantrecipe.model.hub.address import HubAddress
from quantrecipe.model.hub.listing import HubEntry, Listing, huggingface_hub, read_listing
from quantrecipe.release.checksums import SUMS, check_sums, read_sums
from quantrecipe.release.hub_names import LARGEST_FILE, repo_problem
from quantrecipe.sha256sums import Heard, hash_file

__all__ = [
    "CARD",
    "Compared",
    "LocalFile",
    "Visibility",
    "check_visibility",
    "compared",
    "local_files",
    "publish",
    "require_repo",
    "seen",
]

CARD = "README.md"

State = Literal["new", "changed", "there"]
Visibility = Literal["public", "private"]

_PATIENCE = 180  # seconds without a byte: a commit of many large files takes the hub a while
_BAD_REQUEST = 400
_STATUS = re.compile(r"\((\d{3}) ")
"""The hub's answer in what hf_xet says: "HTTP status client error (403 Forbidden), …"."""
_LARGE = 5 << 20
"""Bytes from which a file is uploaded by itself, before the commit; smaller ones go with it, if the hub likes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalFile:
    """A file to be published. path: in the folder, and in the repository."""

    path: str
    nbytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A file, and how it is on the hub."""

    file: LocalFile
    state: State


def require_repo(repo: str) -> None:
    """OutputError for a name that the hub wouldn't take."""
    if what := repo_problem(repo):
        raise OutputError(f"{repo!r} {what}", "write OWNER/NAME, such as me/My-Model-7B-GGUF")


def local_files(folder: Path, hear: Heard | None = None) -> list[LocalFile]:
    """What SHA256SUMS names, the file itself and the card, with the card at the end.

    OutputError, with everything that is wrong, where a file is missing, has other bytes than its hash says, or is one
    that the hub doesn't take.
    """
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder", "give the folder that `quantrecipe release` made")
    sums = read_sums(folder)
    problems = []
    if not (folder / CARD).is_file():
        remedy = "`quantrecipe release` writes it"
        problems.append(Problem(what="there is no model card", remedy=remedy, file=folder / CARD))
    for path in sums:
        size = (folder / path).stat().st_size if (folder / path).is_file() else 0
        if size > LARGEST_FILE:
            what = f"has {size:,} bytes, and the hub takes files of {LARGEST_FILE:,}"
            remedy = "split it: write `split: 50GB` into the release"
            problems.append(Problem(what=what, remedy=remedy, file=folder / path))
    if problems:
        raise OutputError(problems)
    check_sums(folder, sums, hear)
    sums |= {path: hash_file(folder / path) for path in (SUMS, CARD)}
    return [
        LocalFile(path=path, nbytes=(folder / path).stat().st_size, sha256=sha256)
        for path, sha256 in sums.items()
    ]


def seen(repo: str) -> Listing | None:
    """What the repository has; None where there is none, or none that this user may see.

    OutputError where the hub refuses or can't be reached.
    """
    hub = _hub()
    with _only_to_the_hub(hub), _refusals(repo):
        try:
            return read_listing(HubAddress(repo=repo))
        except hub.errors.RepositoryNotFoundError:
            return None
        except ModelError as error:  # what it says can't be
            raise OutputError(error.problems) from error


def check_visibility(repo: str, listing: Listing | None, visibility: Visibility | None) -> None:
    """OutputError where the repository is there, and other people see it than is asked for."""
    if listing is None or visibility is None or listing.private is None:
        return
    if listing.private != (visibility == "private"):
        is_now = "private" if listing.private else "public"
        what = f"{repo} is there, and is {is_now}"
        raise OutputError(what, f"leave out --{visibility}, or change it in the repository's settings")


def compared(folder: Path, files: Sequence[LocalFile], listing: Listing | None) -> list[Compared]:
    """How each file is on the hub, by hashes: SHA-256 of large files, git's SHA-1 of small ones."""
    there = {entry.path: entry for entry in listing.entries} if listing is not None else {}
    return [Compared(file=it, state=_state(folder, it, there.get(it.path))) for it in files]


def _state(folder: Path, file: LocalFile, entry: HubEntry | None) -> State:
    if entry is None:
        return "new"
    if entry.size != file.nbytes:
        return "changed"
    same = entry.sha256 == file.sha256 if entry.sha256 else entry.blob == _blob(folder / file.path)
    return "there" if same else "changed"


def _blob(path: Path) -> str:
    """What git calls a file of these bytes."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def publish(
    folder: Path,
    repo: str,
    files: Sequence[Compared],
    listing: Listing | None,
    *,
    visibility: Visibility | None,
    message: str,
    uploaded: Callable[[LocalFile], None],
    bars: bool = False,
) -> str:
    """Upload what isn't there, and commit it: the address of the commit.

    uploaded: told of each large file that the hub has by then. OutputError where the hub refuses or can't be reached,
    or where the repository has changed since it was looked at; the same command goes on from there. The error says so
    where a repository was made, and stays empty.
    """
    hub = _hub()
    wanted = [it.file for it in files if it.state != "there"]
    if not bars:
        hub.utils.disable_progress_bars()
    with _only_to_the_hub(hub), _refusals(repo):
        api = hub.HfApi(library_name="quantrecipe")
        if any(it.path == CARD for it in wanted):
            _check_card(hub, folder)
        made = listing is None
        if made:
            private = None if visibility is None else visibility == "private"
            api.create_repo(repo, private=private, exist_ok=True)
        with _told_to_be_made(repo) if made else nullcontext():
            listing = listing or read_listing(HubAddress(repo=repo))
            operations = [_operation(hub, folder, it) for it in wanted]
            for file, operation in zip(wanted, operations, strict=True):
                if file.nbytes >= _LARGE or file.path.endswith(".gguf"):
                    api.preupload_lfs_files(repo, [operation], free_memory=False)
                    uploaded(file)
            commit = api.create_commit(repo, operations, commit_message=message, parent_commit=listing.commit)
        now = read_listing(HubAddress(repo=repo))
    missing = [it.file.path for it in compared(folder, [it.file for it in files], now) if it.state != "there"]
    if missing:
        what = f"after the commit, {repo} doesn't have {', '.join(missing)} as they are here"
        raise OutputError(what, "run the same command again")
    return str(commit.commit_url)


def _check_card(hub: Any, folder: Path) -> None:
    """ValueError where the hub wouldn't take the front matter: better before the upload than hours later."""
    said = {"content": (folder / CARD).read_text(encoding="utf-8"), "repoType": "model"}
    headers = hub.utils.build_hf_headers(library_name="quantrecipe")
    response = hub.get_session().post(
        f"{hub.constants.ENDPOINT}/api/validate-yaml", json=said, headers=headers
    )
    if response.status_code == _BAD_REQUEST:
        wrong = [f"- {it.get('message')}" for it in response.json().get("errors", [])]
        raise ValueError(f"Invalid metadata in {CARD}. {' '.join(wrong)}")
    hub.utils.hf_raise_for_status(response)


@contextmanager
def _told_to_be_made(repo: str) -> Iterator[None]:
    """What goes wrong after a repository was made says that it is there."""
    try:
        with _refusals(repo):
            yield
    except OutputError as error:
        what = f"{repo} was made, and is empty until everything is sent"
        remedy = "the same command goes on with it; to be rid of it, delete it in its settings on the hub"
        raise OutputError([*error.problems, Problem(what=what, remedy=remedy)]) from error


def _operation(hub: Any, folder: Path, file: LocalFile) -> Any:
    operation = hub.CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=folder / file.path)
    if getattr(operation.upload_info, "is_hashed", True) is False:  # it was hashed a moment ago
        operation.upload_info.sha256 = bytes.fromhex(file.sha256)
    return operation


def _hub() -> Any:
    try:
        return huggingface_hub()
    except ModelError as error:
        what = "publishing needs the package huggingface_hub, which isn't there"
        raise OutputError(what, "pip install 'quantrecipe[hub]'") from error


@contextmanager
def _only_to_the_hub(hub: Any) -> Iterator[None]:
    """Whatever is sent to another host than the hub goes without the token; and nothing is waited for without end."""
    usual = hub.get_session()
    kind, hooks = type(usual), list(usual.event_hooks["request"])
    home = urlsplit(hub.constants.ENDPOINT)

    def without_token(request: Any) -> None:
        url = urlsplit(str(request.url))
        if (url.scheme, url.netloc) != (home.scheme, home.netloc):
            request.headers.pop("Authorization", None)

    def make(more: Sequence[Callable[[Any], None]], timeout: float | None) -> Callable[[], Any]:
        return lambda: kind(event_hooks={"request": [*hooks, *more]}, follow_redirects=True, timeout=timeout)

    hub.set_client_factory(make([without_token], _PATIENCE))
    try:
        yield
    finally:
        hub.set_client_factory(make([], None))


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    """What goes wrong between here and the hub becomes an OutputError that says what to do."""
    hub = _hub()
    errors = hub.errors
    try:
        yield
    except (OutputError, errors.RepositoryNotFoundError) as error:
        if isinstance(error, OutputError):
            raise
        what = f"the hub has no {repo} that you may write to"
        raise OutputError(
            what, "check the name, and run `hf auth login` with a token that may write"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise OutputError("the hub isn't asked, since HF_HUB_OFFLINE is set", "unset it") from error
    except errors.HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except errors.HTTPError as error:
        raise _unreachable(repo, error) from error
    except RuntimeError as error:  # an upload that failed in a thread
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refused(repo, cause) from error
        if isinstance(cause, errors.HTTPError):
            raise _unreachable(repo, cause) from error
        if isinstance(cause, OSError) and cause.filename is not None:
            raise _unreadable(cause) from error
        if hub.constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
            raise
        raise _of_xet(repo, error) from error
    except OSError as error:
        raise (_of_xet(repo, error) if error.filename is None else _unreadable(error)) from error
    except ValueError as error:  # of the card's front matter, or of storage
        raise OutputError(
            f"the hub refuses: {' '.join(str(error).split())}", "correct it", file=repo
        ) from error


def _unreadable(error: OSError) -> OutputError:
    """A file of the release that is gone by now."""
    what = f"can't be read: {error.strerror or error}"
    return OutputError(what, "run the same command again", file=error.filename)


def _of_xet(repo: str, error: Exception) -> OutputError:
    """hf_xet has an OSError or a RuntimeError for everything, and says in its text what it is."""
    if match := _STATUS.search(str(error)):
        return _answered(repo, int(match[1]), "")
    refused = _unreachable(repo, error).problems[0]
    return OutputError(refused.what, f"{refused.remedy}. HF_HUB_DISABLE_XET=1 uploads without hf_xet")


def _refused(repo: str, error: Any) -> OutputError:
    status = error.response.status_code if error.response is not None else 0
    return _answered(repo, status, getattr(error, "server_message", "") or "")


def _answered(repo: str, status: int, said: str) -> OutputError:
    because = f" ({' '.join(said.split())})" if said else ""
    if status == 401:
        return OutputError(
            f"the hub doesn't know who you are{because}", "run `hf auth login` with a token that may write"
        )
    if status == 403:
        return OutputError(
            f"you may not write to {repo}{because}",
            "take a token that may write, and a name whose owner you are, or an organization of yours",
        )
    if status in (409, 412):
        return OutputError(
            f"{repo} has changed meanwhile{because}", "run the same command again: it compares anew"
        )
    if status == 429:
        return OutputError(
            "the hub answered 429 (too many requests)",
            "wait some minutes, and run the same command: it goes on",
        )
    return OutputError(f"the hub answered {status or '?'} for {repo}{because}", "try again later: it goes on")


def _unreachable(repo: str, error: Exception) -> OutputError:
    return OutputError(
        f"the hub can't be reached for {repo}: {str(error).rstrip('.') or type(error).__name__}",
        "check the connection, and run the same command: it goes on",
    )
