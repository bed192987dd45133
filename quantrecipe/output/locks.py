"""lock, unlock: advisory locks on open files, so that two processes don't write the same one. Never waits."""

from __future__ import annotations

import errno
import os

__all__ = ["lock", "unlock"]

if os.name == "posix":
    import fcntl

    def lock(fd: int) -> None:
        """Lock an open file. OSError if another process has it locked."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS}:  # file systems without locks
                raise

    def unlock(fd: int) -> None:
        """Nothing to do: closing the file gives the lock back."""

else:
    import msvcrt

    _LOCKED_AT = 2**62  # far behind any content: Windows locks bytes against writing, too

    def lock(fd: int) -> None:
        """Lock an open file. OSError if another process has it locked."""
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only

    def unlock(fd: int) -> None:
        """Give the lock back."""
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
