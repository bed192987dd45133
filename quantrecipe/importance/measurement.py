"""Measurement: sums of squares over tokens, whichever layout they came from; what can be added and written.

A .dat file has means times calls, a call being a chunk of tokens: times the chunk size, both are what a GGUF
has. The chunk size is not in the file; unless it is given, it is llama-imatrix's own.

Sums are read when they are asked for, a tensor at a time.

Source: llama.cpp, tools/imatrix/imatrix.cpp: load_imatrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.matrix import Importance, ImportanceEntry, Layout
from quantrecipe.importance.provenance import Provenance

if TYPE_CHECKING:
    from quantrecipe.importance.matrix import FloatArray

__all__ = [
    "DEFAULT_CHUNK_SIZE",
    "EncodedImportance",
    "MeasuredTensor",
    "Measurement",
    "chunk_size_of",
    "chunks_of",
    "measured",
]

DEFAULT_CHUNK_SIZE = 512
"""Tokens in a chunk, unless llama-imatrix is told otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredTensor:
    """What was measured of one tensor.

    size:   number of sums: columns times matrices
    counts: how many tokens each matrix saw, or all of them together where there is one count
    read:   float32 (counts, size / counts): the sums of squares, the caller's own to change
    """

    name: str
    size: int
    counts: tuple[int, ...]
    read: Callable[[], FloatArray]

    @property
    def unseen(self) -> int:
        """How many matrices calibration never reached."""
        return sum(count == 0 for count in self.counts)

    def sums(self) -> FloatArray:
        """What `read` gives. ImportanceError where a sum is too large for float32."""
        with np.errstate(over="ignore"):  # told below, with the tensor's name
            sums = self.read()
        if not np.isfinite(sums).all():
            raise ImportanceError(
                f"{self.name}: a sum of squares is larger than float32 can hold",
                "give smaller weights, or fewer files",
            )
        return sums


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What was measured of a model: its tensors in the order of their names.

    provenance: where it comes from; None leaves it out of the file, whose bytes are llama-imatrix's own then
    """

    tensors: tuple[MeasuredTensor, ...]
    datasets: tuple[str, ...]
    chunks: int
    chunk_size: int
    provenance: Provenance | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImportance:
    """An importance matrix on its way to a file.

    nbytes: size of the file
    pieces: its bytes in order
    lost:   what the layout has no place for, in words
    """

    layout: Layout
    nbytes: int
    pieces: Callable[[], Iterator[bytes]]
    lost: tuple[str, ...] = ()


def chunk_size_of(matrices: Sequence[Importance]) -> int:
    """Tokens in a chunk: what the first file says that says it, or llama-imatrix's own number."""
    return next((matrix.chunk_size for matrix in matrices if matrix.chunk_size), DEFAULT_CHUNK_SIZE)


def measured(matrix: Importance, *, chunk_size: int | None = None) -> Measurement:
    """Return the sums and counts that an importance matrix was made of."""
    size = chunk_size or chunk_size_of([matrix])
    tensors = tuple(_tensor(matrix.entries[name], size) for name in sorted(matrix.entries))
    return Measurement(
        tensors=tensors,
        datasets=matrix.datasets,
        chunks=chunks_of(tensors, size),
        chunk_size=size,
        provenance=matrix.provenance,
    )


def chunks_of(tensors: Sequence[MeasuredTensor], chunk_size: int) -> int:
    """How many chunks the largest count amounts to. llama-imatrix counts them anew, too, whatever its input says."""
    return max((max(tensor.counts) for tensor in tensors), default=0) // chunk_size


def _tensor(entry: ImportanceEntry, chunk_size: int) -> MeasuredTensor:
    if entry.layout == "gguf":
        return MeasuredTensor(name=entry.name, size=entry.size, counts=entry.counts, read=lambda: entry.sums)
    # llama-quantize takes the values of zero calls as they are: the same as those of one call.
    calls = max(1, entry.counts[0])
    return MeasuredTensor(
        name=entry.name,
        size=entry.size,
        counts=(calls * chunk_size,),
        read=lambda: entry.sums * np.float32(chunk_size),
    )
