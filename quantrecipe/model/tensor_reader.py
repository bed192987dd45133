"""TensorReader: rows of stored tensors, straight from the files into the caller's buffers.

A read is positional (`preadv`), so threads share a file without sharing a position; where the system has no
such call (Windows), a lock per file makes up for it. Files open when first needed, and only so many at once:
a checkpoint may have hundreds of shards.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Never, Self

import numpy as np
from numpy.typing import NDArray

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Extent, TensorSource

__all__ = ["FLOAT_BYTES", "TensorReader", "arrange_rows"]

FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a weight in the types whose rows have no structure."""

_MAX_OPEN = 64  # far below the 256 files that macOS allows a process
_MAX_READ = 2**30  # systems cut single reads off at 2 GiB
_POSITIONAL = hasattr(os, "preadv")
_AGAIN = "download it again"


class TensorReader:
    """Reads rows, from any thread. A context manager: leaving it closes the files."""

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

    def read_rows(
        self,
        source: TensorSource,
        start: int,
        stop: int,
        out: NDArray[np.uint8],
        row_bytes: int | None = None,
        *,
        tensor: str = "",
    ) -> None:
        """The stored bytes of rows `start` to `stop`, in the source's order, into `out`: uint8, C-contiguous.

        `row_bytes` may be left out for F64, F32, F16 and BF16; `tensor` is what errors call it. ModelError
        where the file has changed, or doesn't hold the rows.
        """
        width = row_bytes if row_bytes is not None else source.cols * FLOAT_BYTES[source.dtype]
        expected = max(stop - start, 0) * width
        if start < 0 or out.dtype != np.uint8 or not out.flags.c_contiguous or out.size != expected:
            raise ValueError(f"rows {start} to {stop} of {width} bytes don't go into {out.dtype} {out.shape}")
        target = out.reshape(-1).data
        begin = start * width
        if source.inline is not None:
            if begin + expected > len(source.inline):
                raise ValueError(f"{tensor or 'a tensor'} ends before its row {stop}")
            target[:] = source.inline[begin : begin + expected]
            return
        # There may be one for each of hundreds of experts, so those before the rows should cost next to nothing.
        for extent in source.extents:
            if not target:
                return
            if begin >= extent.nbytes:
                begin -= extent.nbytes
                continue
            here = extent.nbytes - begin
            self._read(extent, begin, target[:here], tensor or "a tensor")
            target, begin = target[here:], 0
        if target:
            _fail(source.extents[-1].path, f"{tensor or 'a tensor'} ends before its row {stop}")

    def _read(self, extent: Extent, begin: int, piece: memoryview, tensor: str) -> None:
        offset, done = extent.offset + begin, 0
        try:
            with self._open(extent) as opened:
                while done < len(piece):
                    part = piece[done : done + _MAX_READ]
                    count = opened.read_into(part, offset + done, positional=self._positional)
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


def arrange_rows(raw: NDArray[np.uint8], rows_per_head: int) -> NDArray[np.uint8]:
    """Rows in source order → rows in the GGUF's order; see `TensorSource.rows_per_head`.

    raw: uint8 (n, row bytes), n a multiple of rows_per_head → the same shape; `raw` itself if nothing moves.
    Hugging Face keeps the two rows of a rotated pair half a head apart, llama.cpp has them side by side.
    """
    if rows_per_head == 1:
        return raw
    if len(raw) % rows_per_head or rows_per_head % 2:
        raise ValueError(f"{len(raw)} rows aren't whole heads of {rows_per_head}, an even number")
    halves = raw.reshape(-1, 2, rows_per_head // 2, raw.shape[-1])
    return halves.swapaxes(1, 2).reshape(raw.shape)


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=path)
