"""PartFile: an output file that appears under its own name only when it is whole.

Bytes go to `NAME.part` beside the target, at any offset, from any thread. `finish` makes them durable and
renames; leaving without it removes the part. A part that a crash left behind is written over, unless
another process is still at it.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from quantrecipe.errors import OutputError

__all__ = ["PartFile"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PartFile:
    """`nbytes` of output on their way to `path`. Use as a context manager; `write` is thread-safe."""

    def __init__(self, path: Path, nbytes: int, *, force: bool = False) -> None:
        """OutputError if the path is taken (unless `force`) or can't be written."""
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._nbytes = nbytes
        self._lock = threading.Lock()
        self._refuse_taken(force)
        self._fd = self._open()
        try:
            self._reserve()
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            self._discard()

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        data = data.cast("B")
        try:
            while data:
                written = self._pwrite(data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise self._explain(error) from error

    def sync(self) -> None:
        """Make what was written durable."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._explain(error) from error

    def finish(self) -> None:
        """Make the file durable and give it its name."""
        self.sync()
        try:
            _unlock(self._fd)
            os.close(self._fd)
            self._fd = -1
            self.part.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._explain(error) from error

    def _refuse_taken(self, force: bool) -> None:
        try:
            exists, folder = self.path.exists(), self.path.is_dir()
        except OSError as error:
            raise self._explain(error) from error
        if folder:
            raise OutputError(f"{self.path} is a folder", "name a file with -o FILE")
        if exists and not force:
            raise OutputError(
                f"{self.path} exists", "say --force to replace it, or name another file with -o FILE"
            )
        if not self.path.parent.is_dir():
            raise OutputError(
                f"the folder {self.path.parent} doesn't exist", "create it, or name another with -o FILE"
            )

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            fd = os.open(self.part, flags, 0o666)
        except OSError as error:
            raise self._explain(error) from error
        try:
            _lock(fd)
        except OSError as error:
            os.close(fd)
            raise self._busy() from error
        if not _is(fd, self.part):  # its writer gave it up between our opening and locking it
            os.close(fd)
            raise self._busy()
        return fd

    def _busy(self) -> OutputError:
        return OutputError(
            f"another process is writing {self.part}", "wait for it, or name another file with -o FILE"
        )

    def _reserve(self) -> None:
        """Start from an empty file, and set its length: a file system that can't hold it says so now."""
        try:
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._fd, self._nbytes)
        except OSError as error:
            raise self._explain(error) from error

    def _pwrite(self, data: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._fd, data, offset)
        with self._lock:  # Windows has no positional writes
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.write(self._fd, data)

    def _discard(self) -> None:
        _unlock(self._fd)
        os.close(self._fd)
        self._fd = -1
        self.part.unlink(missing_ok=True)

    def _explain(self, error: OSError) -> OutputError:
        if error.errno in _FULL:
            return OutputError(
                f"the disk of {self.path.parent.resolve()} is full while writing {self.path.name}",
                "free some space, or name a file on another disk with -o FILE; nothing that existed was changed",
            )
        reason = error.strerror or str(error)
        return OutputError(
            f"can't write {self.path}: {reason}", "name a file in a folder that you may write to with -o FILE"
        )


def _is(fd: int, path: Path) -> bool:
    """True if the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where the system lets folders be synced."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EROFS}:  # some network file systems can't
            raise
    finally:
        os.close(fd)


if os.name == "posix":
    import fcntl

    def _lock(fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS}:  # file systems without locks
                raise

    def _unlock(fd: int) -> None:
        """Closing the file gives the lock back."""

else:
    import msvcrt

    _LOCKED_AT = 2**62  # far behind any content: Windows locks bytes against writing, too

    def _lock(fd: int) -> None:
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
