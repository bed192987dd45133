"""Codebooks that nobody stores: a multiplicative generator makes a point of eight, or four, integers of each index.

    state = index + offset; for each coordinate: state *= 0xCBAC1FED (modulo 2^32)
    the coordinate is the sum of the state's four bytes, modulo 64 each, less 126

ik_llama.cpp: QuantizerIQKT::set_values. A decoder computes the points; an encoder looks for the nearest of up to 65536.
For that they are sorted into cells: each coordinate's range is cut into bins with as many points in each, and a cell is
a bin of every coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.scalars import F32, I32, U32, Float, Int

__all__ = ["BOOKS", "OFFSET", "Books", "books", "coordinate", "points"]

OFFSET = 4096
FACTOR, MIDDLE = 0xCBAC1FED, I32(126)
STATES = np.array([pow(FACTOR, k + 1, 1 << 32) for k in range(8)], U32)
SIX_BITS, ONES = U32(0x3F3F3F3F), U32(0x01010101)

BOOKS = (
    "Tuple((Array(float32, 1, 'C', True), Array(int32, 1, 'C', True), Array(int32, 1, 'C', True), "
    "Array(float32, 1, 'C', True)))"
)
"""The signature of what `Books.arrays` gives."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Books:
    """The points of one codebook, or of several one after the other, by cells. The arrays are read-only.

    points:  float32 (points * size,), cell by cell
    indices: int32 (points,), the index that makes each of them
    starts:  int32 (books * (bins ** size + 1),), where each cell of each book begins, and where its last one ends
    bounds:  float32 (books * size * (bins - 1),), between the bins of each coordinate
    """

    points: np.ndarray[Any, np.dtype[np.float32]]
    indices: np.ndarray[Any, np.dtype[np.int32]]
    starts: np.ndarray[Any, np.dtype[np.int32]]
    bounds: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def arrays(self) -> tuple[np.ndarray[Any, Any], ...]:
        """All four, as kernels take them."""
        return self.points, self.indices, self.starts, self.bounds


@kernel
def coordinate(index: Int, k: Int, offset: Int) -> Float:
    """Coordinate k of the point of an index (int32), as float32."""
    state = U32(U32(U32(index) + U32(offset)) * STATES[k])
    return F32(I32(U32(U32(state & SIX_BITS) * ONES) >> U32(24)) - MIDDLE)


def points(
    count: int, size: int, *, offset: int = OFFSET, positive: bool = False
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (count, size): the point of each index below count; their coordinates' sizes if `positive`."""
    states = (np.arange(count, dtype=U32) + U32(offset))[:, None] * STATES[:size]
    made = ((((states & SIX_BITS) * ONES) >> U32(24)).astype(I32) - MIDDLE).astype(F32)
    return np.abs(made) if positive else made


@cache
def books(
    count: int, size: int, bins: int, *, offsets: tuple[int, ...] = (OFFSET,), positive: bool = False
) -> Books:
    """A book for each offset, of this many points of this size, with as many bins for each coordinate."""
    parts: list[tuple[np.ndarray[Any, Any], ...]] = []
    for number, offset in enumerate(offsets):
        made = points(count, size, offset=offset, positive=positive)
        bounds = np.quantile(made, np.arange(1, bins) / bins, axis=0).T.astype(F32)
        cell = np.zeros(count, np.int64)
        for k in range(size):
            cell += np.searchsorted(bounds[k], made[:, k], side="left") * bins**k
        order = np.argsort(cell, kind="stable")
        starts = np.searchsorted(cell[order], np.arange(bins**size + 1)) + number * count
        parts.append((made[order].ravel(), order.astype(I32), starts.astype(I32), bounds.ravel()))
    arrays = [np.concatenate(part) for part in zip(*parts, strict=True)]
    for array in arrays:
        array.flags.writeable = False
    return Books(points=arrays[0], indices=arrays[1], starts=arrays[2], bounds=arrays[3])
