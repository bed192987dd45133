"""Fours of weights as points of a grid: what IQ3_XXS and IQ3_S share besides the search (see `iq3_search.py`).

    x ≈ ± scale * (2 q + 1), q from 0 to 7; four q together are a point of the grid, and, packed, its code

ggml: quantize_row_iq3_xxs_impl, quantize_row_iq3_s_impl.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core.bits import place
from quantrecipe.core.grids.grid import PAD, grid_points, load_grid
from quantrecipe.core.grids.iq3_neighbours import CODES, LEVELS
from quantrecipe.core.grids.iq3_search import GROUP
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.scalars import Floats, Int

__all__ = ["DECODE_FOURS", "ENCODE_FOURS", "fours_tables", "fours_values", "weigh_squares"]

_BOOK = "Tuple((Array(int16, 1, 'C', True), Array(int32, 1, 'C', True), Array(uint16, 1, 'C', True)))"
ENCODE_FOURS = f"void({_BOOK}, Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), uint8[:,::1])"
"""Signature: what `fours_tables` returns; rows, importance and out as in ENCODE_WEIGHTED."""
DECODE_FOURS = "void(Array(float32, 2, 'C', True), Array(uint8, 2, 'C', True), float32[:,::1])"
"""Signature: what `fours_values` returns; data and rows as in DECODE."""

FoursTables = tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.uint16]]


@cache
def fours_tables(name: str, *, distances: int) -> FoursTables:
    """A grid as kernels take it.

    index:      int16 (4096,): which point a code is, -1 if none
    first:      int32 (8193,): neighbours[first[code]:first[code + 1]] can be the nearest, and all that are listed for a
                code are the same 4096 lists on; a point is its own and only one
    neighbours: uint16: codes of points, in lists of a multiple of PAD
    """
    book = load_grid(name, levels=LEVELS, distances=distances, short=True)
    lists = [
        book.codes[book.neighbours[begin:end]] if begin < end else np.full(PAD, key % CODES, np.uint16)
        for key, (begin, end) in enumerate(zip(book.first[:-1], book.first[1:], strict=True))
    ]
    first = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    neighbours = np.concatenate(lists)
    first.flags.writeable = neighbours.flags.writeable = False
    return book.index, first, neighbours


@cache
def fours_values(name: str, values: tuple[int, ...]) -> NDArray[np.float32]:
    """What the points of a grid stand for when decoded: float32 (points, 4)."""
    table = np.array(values, np.float32)[grid_points(name, levels=LEVELS)]
    table.flags.writeable = False
    return table


@disjoint_kernel
def weigh_squares(x: Floats, at: Int, v: Floats) -> None:
    """The group at x[at:] made ready as in `iq3_signs.py`; a weight counts as much as its square."""
    at = place(at)
    for i in range(GROUP):
        w = x[at + i] * x[at + i]
        v[i] = abs(x[at + i])
        v[GROUP + i] = w
        v[2 * GROUP + i] = np.sqrt(w)
