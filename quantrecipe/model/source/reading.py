"""Reading: one evaluation of a source: where its bytes come from, the memory for them, and what has been read.

    reading = Reading(reader, tensor="blk.0.attn_q.weight", room=buffer)
    rows = source.read(0, 128, reading)         uint8 (128, row bytes)
    reading.pieces                              the stored bytes, for a hash; they lie in the buffer

`read_places` reads single rows, for samples. `read_whole` is for small tensors: what becomes metadata, and the operands
of functions of whole tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.source.floats import as_array
from quantrecipe.model.source.source import Constant, Leaf, Stored, TensorSource
from quantrecipe.model.tensor_reader import TensorReader

__all__ = ["Piece", "Reading", "read_places", "read_whole"]

_NOTHING = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True)
class Piece:
    """Stored bytes that were read: of which leaf, from which of its bytes on."""

    leaf: Leaf
    offset: int
    data: NDArray[np.uint8]


class Reading:
    """What one thread reads for one run of rows. Not to be shared."""

    def __init__(self, reader: TensorReader, *, tensor: str = "", room: NDArray[np.uint8] = _NOTHING) -> None:
        """`tensor` is what errors call it. `room`: a flat buffer for stored bytes; what doesn't fit is allocated."""
        self.pieces: list[Piece] = []
        self.nbytes = 0  # read from files
        self._reader = reader
        self._tensor = tensor
        self._room = room
        self._keeps = True

    def stored(self, leaf: Stored, begin: int, end: int) -> NDArray[np.uint8]:
        """These bytes of a leaf: uint8 (end - begin,)."""
        out = self._take(end - begin)
        self._reader.read(leaf.extents, begin, out, tensor=self._tensor)
        self.nbytes += out.size
        self._keep(leaf, begin, out)
        return out

    def constant(self, leaf: Constant, begin: int, end: int) -> NDArray[np.uint8]:
        """The same of one that comes from no file."""
        if not 0 <= begin <= end <= len(leaf.data):
            raise ValueError(f"bytes {begin} to {end} of {len(leaf.data)}")
        out = np.frombuffer(leaf.data, np.uint8)[begin:end]
        self._keep(leaf, begin, out)
        return out

    def passing(self) -> Reading:
        """A reading whose pieces aren't kept: for operations that read much more than they need at the same time."""
        other = Reading(self._reader, tensor=self._tensor)
        other._keeps = False
        return other

    def add(self, other: Reading) -> None:
        """Count what a passing reading has read."""
        self.nbytes += other.nbytes

    def _take(self, nbytes: int) -> NDArray[np.uint8]:
        if nbytes > self._room.size:
            return np.empty(nbytes, np.uint8)
        taken, self._room = self._room[:nbytes], self._room[nbytes:]
        return taken

    def _keep(self, leaf: Leaf, begin: int, data: NDArray[np.uint8]) -> None:
        if self._keeps:
            self.pieces.append(Piece(leaf, begin, data))


def read_places(
    source: TensorSource, places: NDArray[np.int64], reading: Reading, out: NDArray[np.uint8]
) -> None:
    """Single rows, such as a sample. places: int64 (n,), rising; out: uint8 (n, row bytes), which is filled."""
    if source.slab:  # whatever is read of a slab, the matrix is read for it
        slab = places // source.rows * source.rows + places % source.rows // source.together * source.together
        edges = np.flatnonzero(np.diff(slab)) + 1
    else:
        edges = np.flatnonzero(np.diff(places) != 1) + 1
    for first, last in pairwise([0, *edges.tolist(), len(places)] if len(places) else []):
        begin = int(places[first])
        rows = source.read(begin, int(places[last - 1]) + 1, reading)
        out[first:last] = rows[places[first:last] - begin]


def read_whole(source: TensorSource, reader: TensorReader, *, tensor: str = "") -> NDArray[np.generic]:
    """A small tensor as an array of its shape; BF16 and 8-bit floats as float32, which holds them exactly."""
    raw = source.read(0, source.total_rows, Reading(reader, tensor=tensor))
    return as_array(raw, source.dtype).reshape(source.shape)
