"""Hashes of many stretches of files, by threads, each with one small buffer; and whether stretches are zero."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import xxhash

from quantrecipe.model.source.digest import CHUNK, combined, hash_bytes
from quantrecipe.model.source.source import Extent, TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.progress import Progress
from quantrecipe.tensor import TensorInfo

__all__ = ["hash_tensors", "nonzero"]

_CHUNK = CHUNK

T = TypeVar("T")


def hash_tensors(
    tensors: Sequence[TensorInfo],
    sources: Mapping[str, TensorSource],
    reader: TensorReader,
    *,
    threads: int,
    progress: Progress,
) -> dict[str, str]:
    """The hash of what each tensor's source stores, by name (`model/source/digest.py`)."""
    digests: dict[str, str] = {}
    stop = threading.Event()

    def work(tensor: TensorInfo) -> str:
        hashes = []
        for leaf in sources[tensor.name].leaves:
            hashes.append(digest := xxhash.xxh3_128())
            hash_bytes(
                leaf, digest, reader, tensor=tensor.name, chunk=_CHUNK, go_on=lambda: not stop.is_set()
            )
        return combined(hashes)

    def collect(tensor: TensorInfo, digest: str) -> None:
        digests[tensor.name] = digest
        source = sources[tensor.name]
        progress.tensor(tensor, ())
        progress.advance(tensor.size, sum(extent.nbytes for extent in source.extents), 0)

    _each(tensors, work, collect, threads=threads, stop=stop)
    return digests


def nonzero(extent: Extent, reader: TensorReader) -> int | None:
    """The place in the file of the first byte that isn't zero, None where all are."""
    buffer = np.empty(min(_CHUNK, extent.nbytes), np.uint8)
    for begin in range(0, extent.nbytes, _CHUNK):
        piece = buffer[: min(_CHUNK, extent.nbytes - begin)]
        reader.read((extent,), begin, piece, tensor="padding")
        if piece.any():
            return extent.offset + begin + int(np.flatnonzero(piece)[0])
    return None


def _each(
    items: Iterable[TensorInfo],
    work: Callable[[TensorInfo], T],
    collect: Callable[[TensorInfo, T], None],
    *,
    threads: int,
    stop: threading.Event,
) -> None:
    """Do the work with threads, and collect in the caller's; whatever interrupts it stops all."""
    running: dict[Future[T], TensorInfo] = {}
    with ThreadPoolExecutor(threads, "verify") as pool:
        try:
            for item in items:
                running[pool.submit(work, item)] = item
                while len(running) >= 2 * threads:  # so that what was interrupted has little left to give up
                    _take(running, collect)
            while running:
                _take(running, collect)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _take(running: dict[Future[T], TensorInfo], collect: Callable[[TensorInfo, T], None]) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        collect(running.pop(future), future.result())
