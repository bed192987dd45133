"""work_folder: a folder for what is needed while something runs, such as a copy of a model; nothing of it stays.

A process that is killed can't remove its folder, which may hold hundreds of gigabytes. So each folder has a file that
its process holds a lock on, and whoever makes a folder beside it removes those that nobody holds.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quantrecipe.errors import OutputError
from quantrecipe.output.locks import lock, unlock

__all__ = ["remove_left", "work_folder"]

_PREFIX = ".quantrecipe-"
_HELD = "held"
_ATTEMPTS = 10


@contextmanager
def work_folder(parent: Path, kind: str, *, remedy: str = "name another with --work-dir") -> Iterator[Path]:
    """Make `.quantrecipe-KIND-…` in a folder, for its owner alone, and remove it in the end. OutputError.

    kind: what it is for; others of the same kind, whose process was killed, are removed first
    """
    try:
        remove_left(parent, kind)
        place, fd = _made(parent, kind)
    except OSError as error:
        raise OutputError(
            f"can't make a temporary folder in {parent}: {error.strerror or error}", remedy
        ) from error
    try:
        yield place
    finally:
        unlock(fd)
        os.close(fd)
        shutil.rmtree(place, ignore_errors=True)


def _made(parent: Path, kind: str) -> tuple[Path, int]:
    """The folder, and its file, which is locked. Who tidies up meanwhile may have taken it for one that was left."""
    for _ in range(_ATTEMPTS):
        place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-", dir=parent))
        with suppress(OSError):
            fd = os.open(place / _HELD, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            if _is_locked(fd, place / _HELD) is not False:
                return place, fd
            os.close(fd)
        with suppress(OSError):
            place.rmdir()
    raise OSError("other processes remove it")


def remove_left(parent: Path, kind: str) -> None:
    """Remove the folders of this kind that no process holds: whoever needs none may have left one."""
    for left in parent.glob(f"{_PREFIX}{kind}-*"):
        with suppress(OSError):  # one without such a file
            status = left.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != getattr(os, "getuid", lambda: 0)():
                continue  # in a folder of temporary files, anybody may have put it there
            fd = os.open(left / _HELD, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                gone = _is_locked(fd, left / _HELD)
                if gone:
                    (left / _HELD).unlink()  # first, so that nobody else takes it for held
            finally:
                unlock(fd)
                os.close(fd)
            if gone:
                shutil.rmtree(left, ignore_errors=True)


def _is_locked(fd: int, path: Path) -> bool | None:
    """Lock it: True. False where it is another's, or gone; None where the file system has no locks."""
    try:
        if not lock(fd):
            return None
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
