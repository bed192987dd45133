"""Advisory locks, so that two processes don't write the same file. Never waits.

lock, unlock    on an open file
held            on a name, for work whose files come and go
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quantrecipe.errors import OutputError
from quantrecipe.output.write_errors import write_error

__all__ = ["held", "lock", "unlock"]

_CLOSED_FIRST = os.name == "nt"  # Windows removes no open file

if os.name == "posix":
    import fcntl

    def lock(fd: int) -> bool:
        """Lock an open file. OSError if another process has it locked; False where the file system has no locks."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS}:
                raise
            return False
        return True

    def unlock(fd: int) -> None:
        """Nothing to do: closing the file gives the lock back."""

else:
    import msvcrt

    _LOCKED_AT = 2**62  # far behind any content: Windows locks bytes against writing, too

    def lock(fd: int) -> bool:
        """Lock an open file. OSError if another process has it locked."""
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
        return True

    def unlock(fd: int) -> None:
        """Give the lock back."""
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only


@contextmanager
def held(path: Path, busy: OutputError) -> Iterator[None]:
    """Hold the empty file `path` while the block runs, and remove it then; `busy` where another process holds it.

    What a process that was killed left behind holds nothing: it is taken over.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise write_error(error, path) from error
    taken = False
    try:
        try:
            lock(fd)
            taken = os.path.samestat(os.fstat(fd), path.lstat())  # else its holder has removed it meanwhile
        except OSError as error:
            raise busy from error
        if not taken:
            raise busy
        yield
    finally:
        if taken and not _CLOSED_FIRST:
            _remove(path)
        if taken:
            unlock(fd)
        os.close(fd)
        if taken and _CLOSED_FIRST:
            _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # what is left behind holds nothing
        path.unlink()
