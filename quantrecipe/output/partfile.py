"""PartFile: an output file that appears under its own name only when it is whole.

Bytes go to `NAME.quantrecipe-part` beside the file's own place, at any offset, from any thread. `finish` makes them
durable and gives the file its name; leaving without it removes the part. A part that a crash left behind is
replaced, unless another process is still at it, or kept, where a journal may say what is in it. Nothing else is
touched: not what a link leads to, nor a file that has another name as well. As long as it is a part, it is for its
owner alone; then it may be read by whom the umask allows.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from quantrecipe.errors import OutputError
from quantrecipe.output.at_offset import read_all, write_all
from quantrecipe.output.early_writing import write_early
from quantrecipe.output.locks import lock, unlock
from quantrecipe.output.naming import check_destination, give_names
from quantrecipe.output.reserved_space import reserve_space
from quantrecipe.output.write_errors import write_error
from quantrecipe.whole_file import mode_of_new

__all__ = ["PartFile", "part_path"]

_SUFFIX = ".quantrecipe-part"  # no other program's: browsers and downloaders use .part

_EARLY = 1 << 26
"""Bytes after which the system is asked to put on the disk what was written: so the end isn't all waiting."""

_PRIVATE = 0o600
_FLAGS = os.O_RDWR | os.O_CREAT
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # not every system has them
    _FLAGS |= getattr(os, _name, 0)

_CLOSED_FIRST = os.name == "nt"
"""Windows renames and removes no open file. Elsewhere the lock is held until the part is gone."""


def part_path(path: Path) -> Path:
    """The name that a file has while it is written."""
    return path.with_name(path.name + _SUFFIX)


class PartFile:
    """`nbytes` of output on their way to `path`. Use as a context manager; `write` and `read` are thread-safe.

    left:    a part of this length was there, and is kept as it was
    settled: it was kept or removed
    failed:  what the disk said when it lost what was written; nothing that was written can be relied on then
    gone:    somebody has removed the part, or moved it: what is written is lost, or elsewhere
    """

    def __init__(self, path: Path, nbytes: int, *, force: bool = False, keep: bool = False) -> None:
        """OutputError if the path is taken (unless `force` lets a file be replaced) or can't be written.

        keep: leave what an earlier run has written, if it has the right length; else it is emptied
        """
        check_destination(path, force=force)
        self.path = path
        self.part = part_path(path)
        self.force = force
        self._nbytes = nbytes
        self._lock = threading.Lock()
        self.settled = False
        self.failed: OutputError | None = None
        self.gone: OutputError | None = None
        self._waiting = 0  # bytes written since the system was asked to begin putting them on the disk
        self._fd = self._open()
        self._status = os.fstat(self._fd)
        self._private = self._make_private()
        self.left = keep and self._status.st_size == nbytes > 0 and self._is_on_disk()
        try:
            if self.left:
                self._reserve()
            else:
                self.empty()
        except BaseException:
            if self.left:
                self.keep()
            else:
                self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.settled:
            self.discard()

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        self.require_sound()
        try:
            write_all(self._fd, data, offset, self._lock)
        except OSError as error:
            raise write_error(error, self.path) from error
        with self._lock:
            self._waiting += data.nbytes
            begin = self._waiting >= _EARLY
            if begin:
                self._waiting = 0
        if begin:
            write_early(self._fd)

    def require_sound(self) -> None:
        """OutputError where what was written is lost, by whomever it was written."""
        for error in (self.failed, self.gone):
            if error is not None:
                raise error

    def read(self, out: memoryview, offset: int) -> bool:
        """Fill `out` with what was written at `offset`. False where the part doesn't have it, or can't be read."""
        try:
            return read_all(self._fd, out, offset, self._lock)
        except OSError:
            return False

    def sync(self) -> None:
        """Have the system put on the disk what was written. What it couldn't is an error now, and ever after.

        The system tells it once, and counts what it has lost as written: a second try would succeed.
        """
        if self.failed is not None:
            raise self.failed
        try:
            os.fsync(self._fd)
        except OSError as error:
            self.failed = write_error(error, self.path)
            raise self.failed from error

    def look(self) -> None:
        """Find out whether the part still has its name: without it, hours of work would go nowhere."""
        try:
            there = os.path.samestat(self._status, self.part.lstat())
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError:  # a server that is away for a moment
            return
        if not there:
            self.gone = OutputError(
                f"{self.part} is gone: somebody has removed or moved it, or its folder",
                "move it back with its journal, and the same command goes on; else it begins anew",
            )

    def empty(self) -> None:
        """Start from an empty file, and set its length. OutputError where a file system can't hold it."""
        self.left = False
        try:
            if os.name == "nt":
                os.ftruncate(self._fd, 0)
            elif os.fstat(self._fd).st_size:
                self._renew()
            os.ftruncate(self._fd, self._nbytes)
        except OSError as error:
            raise write_error(error, self.path) from error
        self._reserve()

    def make_public(self) -> None:
        """Let those read it who may read any new file here. OutputError where it is gone."""
        self.look()
        if self.gone is not None:
            raise self.gone
        if self._private and self._fd >= 0:
            try:
                os.fchmod(self._fd, mode_of_new(self.part.parent))
            except OSError as error:
                raise write_error(error, self.path) from error

    def finish(self) -> None:
        """Make the file durable and give it its name. OutputError if it can't have it; the part is kept then."""
        give_names([self])

    @property
    def node(self) -> tuple[int, int]:
        """(file system, number there): what the system knows the part by."""
        return self._status.st_dev, self._status.st_ino

    def is_at(self, path: Path) -> bool:
        """True if this file has that name."""
        return _is_at(self._status, path)

    def let_go(self) -> None:
        """Allow the part to be renamed."""
        if _CLOSED_FIRST:
            self._close()

    def keep(self) -> None:
        """Leave the part where it is."""
        self.settled = True
        self._close()

    def discard(self) -> None:
        """Remove the part. A file that has its own name by now keeps that."""
        self.settled = True
        self.let_go()
        with suppress(OSError):  # what ended the run is told; the next run takes the part's place
            if self.is_at(self.part):
                self.part.unlink()
        self._close()

    def _open(self) -> int:
        try:
            self._clear_place()
            fd = os.open(self.part, _FLAGS, _PRIVATE)
        except OSError as error:
            raise write_error(error, self.path) from error
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _renew(self) -> None:
        """Take another file. A worker of a run that was killed may still write to the one that was there."""
        self.part.unlink()
        fd = os.open(self.part, _FLAGS | os.O_EXCL, _PRIVATE)
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        self._close()
        self._fd, self._status = fd, os.fstat(fd)
        self._private = self._make_private()

    def _clear_place(self) -> None:
        """OutputError where the part's name has something that quantrecipe didn't leave."""
        try:
            status = self.part.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and _is_at(status, self.path):
            self.part.unlink()  # a crash came between giving the file its name and taking the part's away
        else:
            self._require_part(status)

    def _take(self, fd: int) -> None:
        """Lock the part, and make sure that it is one."""
        busy = OutputError(f"another process is writing {self.part}", "wait for it, or name another file")
        try:
            lock(fd)
        except OSError as error:
            raise busy from error
        status = os.fstat(fd)
        if not _is_at(status, self.part):  # its writer finished or gave up between our opening and locking it
            raise busy
        self._require_part(status)

    def _make_private(self) -> bool:
        """Let nobody else read the part, whoever made it. False where there are no modes."""
        if not hasattr(os, "fchmod"):  # Windows
            return False
        try:
            os.fchmod(self._fd, _PRIVATE)
        except OSError:  # a file system that has none
            return False
        return True

    def _reserve(self) -> None:
        """Have the space set aside. A file system that can't hold it says so now."""
        try:
            reserve_space(self._fd, self._nbytes)
        except OSError as error:
            raise write_error(error, self.path) from error

    def _is_on_disk(self) -> bool:
        """Have what an earlier run has written put on the disk, and read from there, or else start over.

        Where the disk, or a server, couldn't take some of it, the system may still answer with what it has in memory.
        """
        try:
            os.fsync(self._fd)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return False
        return True

    def _require_part(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OutputError(
                f"{self.part} is in the way, and isn't what a stopped run leaves",
                "remove it, or name another file",
            )

    def _close(self) -> None:
        if self._fd >= 0:
            unlock(self._fd)
            os.close(self._fd)
            self._fd = -1


def _is_at(status: os.stat_result, path: Path) -> bool:
    """True if the file of this status has that name itself, not through a link."""
    try:
        return os.path.samestat(status, path.lstat())
    except OSError:
        return False
