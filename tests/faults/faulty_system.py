"""FaultySystem: the calls with which files are written, counted, and failing at one of them as it is told."""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FAULTS", "FaultySystem"]

FAULTS = (
    *("kill", "half", "time", "power-cut", "EIO", "ENOSPC", "full", "short"),
    *("fsync", "names", "signals", "slow", "clock", "twice", "flip"),
)
_CALLS = (
    *(
        "pwrite",
        "write",
        "preadv",
        "readv",
        "fsync",
        "ftruncate",
        "open",
        "link",
        "unlink",
        "rename",
        "replace",
    ),
    *("mkdir", "rmdir", "fchmod"),
)
_WRITES = ("pwrite", "write")
_READS = ("preadv", "readv")
_NAMES = ("link", "rename", "replace")
_ROOM = (*_WRITES, "ftruncate", "open", "mkdir", *_NAMES)
_ONLY = {"fsync": ("fsync",), "names": _NAMES, "ENOSPC": _ROOM, "full": _ROOM}
"""Faults that only such calls have: they happen at the first from the wanted one on."""
_PAGE = 4096
_SLOW_CALLS, _SLOW_SECONDS = 30, 0.004
_YEAR = 366 * 24 * 3600.0


class FaultySystem:
    """Replaces the calls in `os` for good: for a process that ends soon. Only what concerns `folder` is counted.

    count: calls so far
    """

    def __init__(self, folder: Path, fault: str, at: int, seed: int) -> None:
        """fault: one of FAULTS, or "" for none; at: the call at which it happens, counted from 1.

        What only some calls can do happens at the first such call from there on.
        """
        self.count = 0
        self._folder, self._fault, self._at = str(folder), fault, at
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._calls: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _CALLS}
        self._unsynced: dict[tuple[int, int], list[tuple[int, int]]] = {}  # ranges, by device and inode
        self._open: dict[
            tuple[int, int], int
        ] = {}  # our own descriptors: files are closed before they are renamed
        self._happened = False
        for name in _CALLS:
            setattr(os, name, self._replacement(name))
        self._open_file = io.open
        io.open = builtins.open = self._opened  # type: ignore[assignment]  # with what is passed on
        if fault == "signals":
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    def _replacement(self, name: str) -> Callable[..., Any]:
        call = self._calls[name]

        def counted(*given: Any, **more: Any) -> Any:
            if not self._concerned(given[0]):
                return call(*given, **more)
            with self._lock:
                self.count += 1
                if self._is_it(name):
                    self._happen(name, given)
                elif self._happened and self._fault == "full" and name in (*_WRITES, "ftruncate"):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._fault == "short" and self.count >= self._at:
                    given = self._shortened(name, given)
                if name in _WRITES:
                    self._note(name, given)
                file = _identity(given[0]) if name == "fsync" else (0, 0)
                before = list(self._unsynced.get(file, []))
            if self._fault == "slow" and self._at <= self.count < self._at + _SLOW_CALLS:
                time.sleep(self._random.random() * _SLOW_SECONDS)
            result = call(*given, **more)
            if before:
                with (
                    self._lock
                ):  # each by itself: two threads may sync at once, and ranges be written anew meanwhile
                    done = {id(it) for it in before}
                    self._unsynced[file] = [it for it in self._unsynced[file] if id(it) not in done]
            return result

        return counted

    def _is_it(self, name: str) -> bool:
        if self._fault in _ONLY:
            return not self._happened and self.count >= self._at and name in _ONLY[self._fault]
        return self.count == self._at

    def _opened(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """The same as `open`; what it opens writes and reads with the calls that are counted."""
        if not self._concerned(file):
            return self._open_file(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener or _open)
        if not buffering:
            return raw
        stream: Any
        if "+" in mode:
            stream = io.BufferedRandom(raw)
        else:
            stream = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding, errors, newline)

    def _concerned(self, what: Any) -> bool:
        if isinstance(what, int):
            try:
                return str(Path(f"/proc/self/fd/{what}").readlink()).startswith(self._folder)
            except OSError:
                return False
        return str(what).startswith(self._folder)

    def _happen(self, name: str, given: tuple[Any, ...]) -> None:
        self._happened = True
        if self._fault == "half" and name in _WRITES:
            data = memoryview(given[1]).cast("B")
            self._calls[name](given[0], data[: len(data) // 2], *given[2:])
        if self._fault == "power-cut":
            self._cut()
        if self._fault == "clock":
            self._jump()
        if self._fault in ("kill", "half", "power-cut"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault in ("EIO", "ENOSPC", "full", "fsync", "names"):
            code = errno.EIO if self._fault in ("EIO", "fsync", "names") else errno.ENOSPC
            raise OSError(code, os.strerror(code))

    def _jump(self) -> None:
        """The clock on the wall jumps, back or forth; the other goes on, but for hours that the machine slept."""
        apart, slept = self._random.uniform(-_YEAR, _YEAR), self._random.uniform(0, 12 * 3600.0)
        wall, steady = time.time, time.monotonic
        time.time = lambda: wall() + apart
        time.monotonic = lambda: steady() + slept

    def _shortened(self, name: str, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if name in _WRITES and len(data := memoryview(given[1]).cast("B")) > 1:
            return (given[0], data[: self._random.randrange(1, len(data))], *given[2:])
        if name in _READS and len(data := memoryview(given[1][0]).cast("B")) > 1:
            return (given[0], [data[: self._random.randrange(1, len(data))]], *given[2:])
        return given

    def _note(self, name: str, given: tuple[Any, ...]) -> None:
        fd, size = given[0], memoryview(given[1]).nbytes
        begin = given[2] if name == "pwrite" else _place(fd)
        file = _identity(fd)
        if file not in self._open:
            self._open[file] = os.dup(fd)
        self._unsynced.setdefault(file, []).append((begin, size))

    def _cut(self) -> None:
        """Of what wasn't synced, random pages never reach the disk."""
        for file, ranges in self._unsynced.items():
            fd = self._calls["open"](f"/proc/self/fd/{self._open[file]}", os.O_WRONLY)  # without O_APPEND
            for begin, size in ranges:
                place, last = begin, min(begin + size, os.fstat(fd).st_size)
                while place < last:
                    end = min(last, (place // _PAGE + 1) * _PAGE)
                    if self._random.random() < 0.5:
                        self._calls["pwrite"](fd, bytes(end - place), place)
                    place = end


class _Raw(io.FileIO):
    """A file whose content goes through `os`, as it is at the time."""

    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)

    def readinto(self, room: Any) -> int:
        return os.readv(self.fileno(), [memoryview(room).cast("B")])

    def read(self, size: int | None = -1) -> bytes:
        return io.RawIOBase.read(self, -1 if size is None else size) or b""

    def readall(self) -> bytes:
        return io.RawIOBase.readall(self)  # type: ignore[return-value]  # never None: it blocks


def _open(path: Any, flags: int) -> int:
    return os.open(path, flags, 0o666)


def _place(fd: int) -> int:
    """Where the next byte goes that is written to the file."""
    import fcntl

    appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    return os.lseek(fd, 0, os.SEEK_END if appends else os.SEEK_CUR)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
