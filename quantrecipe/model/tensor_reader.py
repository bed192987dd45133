"""TensorReader: stored bytes, straight from the files into the caller's buffers, wherever the files lie.

A read is positional (`preadv`), so threads share a file without sharing a position; where the system has no
such call (Windows), a lock per file makes up for it. Files open when first needed, and only so many at once:
a checkpoint may have hundreds of shards.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Never, Self

import numpy as np
from numpy.typing import NDArray

from quantrecipe.errors import ModelError
from quantrecipe.model.source.source import Extent
from quantrecipe.remote_files import remote_file

__all__ = ["TensorReader"]

_MAX_OPEN = 64  # far below the 256 files that macOS allows a process
_MAX_READ = 2**30  # systems cut single reads off at 2 GiB
_POSITIONAL = hasattr(os, "preadv")
_AGAIN = "download it again"

_PASSING = {errno.EIO, errno.ETIMEDOUT}
"""What a network file system says while its server is away, or a disk whose cable is loose. Reading changes nothing."""

_PAUSES = (0.1, 1.0, 10.0)
"""Seconds before each other try: a server's restart is no reason to lose a night, and a broken disk is told soon."""


class TensorReader:
    """Reads from any thread. A context manager: leaving it closes the files."""

    def __init__(self, *, max_open: int = _MAX_OPEN, positional: bool = _POSITIONAL) -> None:
        """At most `max_open` files are kept open between reads; `positional` False reads by seeking."""
        self._max_open = max_open
        self._positional = positional
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, _OpenFile] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files. A later read opens them again."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].file.close()

    def read(
        self, extents: Sequence[Extent], begin: int, out: NDArray[np.uint8], *, tensor: str = ""
    ) -> None:
        """Fill `out`, uint8 and C-contiguous, with the bytes from `begin` on of extents that follow each other.

        `tensor` is what errors call it. ModelError where a file has changed, or doesn't hold the bytes.
        """
        if begin < 0 or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"bytes from {begin} on don't go into {out.dtype} {out.shape}")
        target = out.reshape(-1).data
        end = begin + out.size
        # There may be one for each of hundreds of experts, so those before the bytes should cost next to nothing.
        for extent in extents:
            if not target:
                return
            if begin >= extent.nbytes:
                begin -= extent.nbytes
                continue
            here = extent.nbytes - begin
            self._read(extent, begin, target[:here], tensor or "a tensor")
            target, begin = target[here:], 0
        if target:
            raise ValueError(f"{tensor or 'a tensor'} has no byte {end - 1:,}")

    def _read(self, extent: Extent, begin: int, piece: memoryview, tensor: str) -> None:
        offset, done = extent.offset + begin, 0
        if (remote := remote_file(extent.path)) is not None:
            remote.read_into(piece, offset)
            return
        pauses = iter(_PAUSES)
        try:
            with self._open(extent) as opened:
                while done < len(piece):
                    part = piece[done : done + _MAX_READ]
                    try:
                        count = opened.read_into(part, offset + done, positional=self._positional)
                    except OSError as error:
                        pause = next(pauses, None) if error.errno in _PASSING else None
                        if pause is None:
                            raise
                        time.sleep(pause)
                        continue
                    if not count:
                        _fail(extent.path, f"ends at byte {offset + done:,}, before {tensor} does")
                    done += count
        except OSError as error:
            what = f"can't be read at byte {offset + done:,}, in {tensor}: {error.strerror or error}"
            raise ModelError(what, file=extent.path) from error

    @contextmanager
    def _open(self, extent: Extent) -> Iterator[_OpenFile]:
        with self._lock:
            opened = self._files.get(extent.path)
            if opened is None:
                opened = self._files[extent.path] = _OpenFile(extent)
            self._files.move_to_end(extent.path)
            opened.users += 1
            self._close_idle()
        try:
            yield opened
        finally:
            with self._lock:
                opened.users -= 1

    def _close_idle(self) -> None:
        """Close the files that were used longest ago, down to the limit; those in use stay."""
        surplus = len(self._files) - self._max_open
        for path in [path for path, opened in self._files.items() if not opened.users][: max(surplus, 0)]:
            self._files.pop(path).file.close()


class _OpenFile:
    """An open file, and how many threads are reading it."""

    __slots__ = ("file", "lock", "users")

    def __init__(self, extent: Extent) -> None:
        self.file: BinaryIO = extent.path.open("rb", buffering=0)
        self.users = 0
        self.lock = threading.Lock()
        size = os.fstat(self.file.fileno()).st_size
        if extent.file_size is not None and size != extent.file_size:
            self.file.close()
            what = f"has {size:,} bytes, but had {extent.file_size:,} when its header was read"
            raise ModelError(what, "wait until nothing writes to it, and run again", file=extent.path)

    def read_into(self, part: memoryview, offset: int, *, positional: bool) -> int:
        if positional:
            return os.preadv(self.file.fileno(), [part], offset)
        with self.lock:
            self.file.seek(offset)
            return self.file.readinto(part) or 0  # type: ignore[attr-defined]  # BinaryIO lacks it, FileIO has it


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=path)
