"""Cells of points: of a grid of many points, those that may be near, so that not all of them have to be tried.

A trellis type has up to 65,536 points for eight weights. To try them all would take as many multiply-adds for each
weight. So each coordinate's range is cut into bins with as many points in each, and a cell is a bin of every
coordinate. Who looks for a point tries those of its own cell, and of the cells that it comes to by crossing the nearest
bound in the coordinates where that costs least, in all combinations.

points   by cells, LANES points together, which are the lanes of vectors: float32 (blocks, size, LANES). The rest of a
         cell's last block is zero
numbers  of these points, within their book: int32 (blocks, LANES), -1 for what is no point
starts   the block with which each cell begins, book by book: int64 (books * CELLS + 1,)
bounds   between the bins of each coordinate: float32 (books, size, bins - 1)
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import PointGrid

__all__ = ["CELLS", "LANES", "MANY", "Cells", "cells_of"]

Cells = tuple["NDArray[np.float32]", "NDArray[np.int32]", "NDArray[np.int64]", "NDArray[np.float32]"]

LANES = 16
CELLS = 256
MANY = 4096
"""Of more points than this, not all are tried. IQ1_M has as many."""
_SHARE, _LEAST = 16, 1024
"""So many points are tried of each book: one of 16, but not fewer than 1,024, as far as there are bounds to cross. With
all of them R H Rᵀ was 0.2 % smaller in IQ2_KT, and no smaller in IQ1_KT and IQ4_KT. With a quarter as many it was 5 %
larger in IQ2_KT and 0.7 % in IQ4_KT, with half as many 1.6 % in IQ1_KT."""


def _read_only(*arrays: NDArray[Any]) -> Any:
    for array in arrays:
        array.flags.writeable = False
    return arrays


_NO_CELLS: Cells = _read_only(
    np.empty((0, 0, LANES), np.float32), np.empty((0, LANES), np.int32), np.zeros(1, np.int64),
    np.empty((0, 0, 0), np.float32),
)  # fmt: skip


def cells_of(grid: PointGrid) -> tuple[Cells, int]:
    """The cells of a grid's points, and in how many coordinates to cross a bound: 0 where all points are to be tried.

    Cells are kept for the grids that were asked for last.
    """
    count, size = grid.points.shape
    if count <= MANY and grid.books == 1:
        return _NO_CELLS, 0
    book, reach = count // grid.books, 1
    while reach < size and book * 2**reach < CELLS * max(book // _SHARE, _LEAST):
        reach += 1
    return _cells(np.ascontiguousarray(grid.points, np.float32).tobytes(), size, grid.books), reach


@lru_cache(maxsize=4)
def _cells(data: bytes, size: int, books: int) -> Cells:
    points = np.frombuffer(data, np.float32).reshape(books, -1, size)
    bins = round(CELLS ** (1 / size))
    blocks, numbers, starts = [], [], [0]
    bounds = np.empty((books, size, bins - 1), np.float32)
    for book, its in enumerate(points):
        ordered = np.sort(its, axis=0)
        bounds[book] = ordered[len(its) * np.arange(1, bins) // bins].T
        cell = np.zeros(len(its), np.int64)
        for i in range(size):
            cell += np.searchsorted(bounds[book, i], its[:, i], side="left") * bins**i
        order = np.argsort(cell, kind="stable")
        ends = np.searchsorted(cell[order], np.arange(CELLS + 1))
        for number in range(CELLS):
            mine = order[ends[number] : ends[number + 1]]
            count = -(-len(mine) // LANES)
            filled, named = np.zeros((count * LANES, size), np.float32), np.full(count * LANES, -1, np.int32)
            filled[: len(mine)], named[: len(mine)] = its[mine], mine
            blocks.append(np.moveaxis(filled.reshape(count, LANES, size), 2, 1))
            numbers.append(named.reshape(count, LANES))
            starts.append(starts[-1] + count)
    made: Cells = _read_only(
        np.ascontiguousarray(np.concatenate(blocks)),
        np.concatenate(numbers),
        np.array(starts, np.int64),
        bounds,
    )
    return made
