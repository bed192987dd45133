"""FaultySystem: the calls with which files are written, counted, and failing at one of them as it is told."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FAULTS", "FaultySystem"]

FAULTS = ("kill", "half", "time", "power-cut", "EIO", "ENOSPC", "full", "short")
_CALLS = (
    *("pwrite", "write", "preadv", "fsync", "ftruncate", "open", "link", "unlink", "rename", "replace"),
    *("mkdir", "rmdir"),
)
_WRITES = ("pwrite", "write")
_PAGE = 4096


class FaultySystem:
    """Replaces the calls in `os` for good: for a process that ends soon. Only what concerns `folder` is counted.

    count: calls so far
    """

    def __init__(self, folder: Path, fault: str, at: int, seed: int) -> None:
        """fault: one of FAULTS, or "" for none; at: the call at which it happens, counted from 1."""
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

    def _replacement(self, name: str) -> Callable[..., Any]:
        call = self._calls[name]

        def counted(*given: Any, **more: Any) -> Any:
            if not self._concerned(given[0]):
                return call(*given, **more)
            with self._lock:
                self.count += 1
                if self.count == self._at:
                    self._happen(name, given)
                elif self._happened and self._fault == "full" and name in (*_WRITES, "ftruncate"):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._fault == "short" and self.count >= self._at:
                    given = self._shortened(name, given)
                if name in _WRITES:
                    self._note(name, given)
                file = _identity(given[0]) if name == "fsync" else (0, 0)
                before = list(self._unsynced.get(file, []))
            result = call(*given, **more)
            if before:
                with self._lock:
                    for it in before:
                        self._unsynced[file].remove(it)
            return result

        return counted

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
        if self._fault in ("kill", "half", "power-cut"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault in ("EIO", "ENOSPC", "full"):
            code = errno.EIO if self._fault == "EIO" else errno.ENOSPC
            raise OSError(code, os.strerror(code))

    def _shortened(self, name: str, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if name in _WRITES and len(data := memoryview(given[1]).cast("B")) > 1:
            return (given[0], data[: self._random.randrange(1, len(data))], *given[2:])
        if name == "preadv" and len(data := given[1][0]) > 1:
            return (given[0], [data[: self._random.randrange(1, len(data))]], *given[2:])
        return given

    def _note(self, name: str, given: tuple[Any, ...]) -> None:
        fd, size = given[0], memoryview(given[1]).nbytes
        begin = given[2] if name == "pwrite" else os.lseek(fd, 0, os.SEEK_CUR)
        file = _identity(fd)
        if file not in self._open:
            self._open[file] = os.dup(fd)
        self._unsynced.setdefault(file, []).append((begin, size))

    def _cut(self) -> None:
        """Of what wasn't synced, random pages never reach the disk."""
        for file, ranges in self._unsynced.items():
            for begin, size in ranges:
                place = begin
                while place < begin + size:
                    end = min(begin + size, (place // _PAGE + 1) * _PAGE)
                    if self._random.random() < 0.5:
                        self._calls["pwrite"](self._open[file], bytes(end - place), place)
                    place = end


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
