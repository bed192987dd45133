"""Eight weights as a point of a grid: what the IQ1 and IQ2 formats share.

The integers of a point, 0 to 2, stand for three values. How far a point is from eight weights is, in ggml, a sum of
eight float32 in the order of the weights:

    ∑ w_i (scale * value(q_i) - x_i)²        iq2_find_best_neighbour, iq1_find_best_neighbour2

A term of it depends on i and q_i only. So all 24 terms are computed once, and a point costs a few additions. There are
two ways to have many sums side by side:

* Many points for one eight and one scale: `nearest_code`, which takes the terms that the bits of a point's code say.
* Many scales for one eight: `iq2_neighbours.py`, where the distance of a point is a sum of PLACES rows.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core.bits import as_bits, place
from quantrecipe.core.grids.grid import grid_points, load_grid
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import LANES, Q, nearest_int, select
from quantrecipe.core.scalars import F32, HALF, I32, ONE, Float, Floats, Int, Ints

__all__ = [
    "AT_ONCE",
    "BLOCK",
    "DECODE_EIGHTS",
    "EIGHT",
    "ENCODE_EIGHTS",
    "LARGEST",
    "LEVELS",
    "PLACES",
    "ROOT",
    "ROW",
    "ROWS",
    "SUMS",
    "TERMS",
    "TOGETHER",
    "WIDTH",
    "eights_tables",
    "eights_values",
    "nearest_code",
    "odd_step",
]

LARGEST = F32(np.finfo(np.float32).max)
FARTHEST = np.int64(np.iinfo(np.int64).max)

EIGHT, LEVELS = 8, 3
AT_ONCE = 2
"""Neighbours that are looked at together."""
TERMS = EIGHT * LEVELS
STRIDE = LEVELS * LANES
ROOT = Q
"""In a workspace (see `lanes.py`): the square root of WT, what a weight counts in IQ2's distances."""
BLOCK = 16
"""Points that stand side by side."""
WIDTH = 16
"""Scales that are compared side by side."""
ROW = 24
"""Scales that an eight has room for."""
TOGETHER = 2
"""Terms that are added up beforehand: with more, the sums take longer than they save."""
SUMS = LEVELS**TOGETHER
ROWS = SUMS + LEVELS * (EIGHT - TOGETHER)
PLACES = 1 + EIGHT - TOGETHER

_BOOK = (
    "Tuple((Array(int16, 1, 'C', True), Array(int32, 1, 'C', True), Array(uint16, 1, 'C', True), "
    "Array(uint16, 1, 'C', True), Array(uint16, 1, 'C', True)))"
)
ENCODE_EIGHTS = f"void({_BOOK}, Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), uint8[:,::1])"
"""Signature: what `eights_tables` returns; rows, importance and out as in ENCODE_WEIGHTED."""
DECODE_EIGHTS = "void(Array(float32, 2, 'C', True), Array(uint8, 2, 'C', True), float32[:,::1])"
"""Signature: what `eights_values` returns; data and rows as in DECODE."""

EightsTables = tuple[
    NDArray[np.int16], NDArray[np.int32], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]
]


@cache
def eights_tables(name: str, *, distances: int, short: bool = False) -> EightsTables:
    """A grid as kernels take it: index, first, neighbours (see `Grid`; for `short`, `load_grid`), codes, places.

    codes:  uint16, the codes of the neighbours; BLOCK more at the end, so that whole blocks can be read
    places: uint16, PLACES for each point: where the rows begin whose sum is its distance
    """
    book = load_grid(name, levels=LEVELS, distances=distances, pad=AT_ONCE, short=short)
    codes = np.concatenate([book.codes[book.neighbours], np.zeros(BLOCK, np.uint16)])
    pairs = book.points[:, :TOGETHER] @ LEVELS ** np.arange(TOGETHER)
    singles = SUMS + LEVELS * np.arange(EIGHT - TOGETHER) + book.points[:, TOGETHER:]
    places = (np.column_stack([pairs, singles]) * ROW).astype(np.uint16).reshape(-1)
    for array in (codes, places):
        array.flags.writeable = False
    return book.index, book.first, book.neighbours, codes, places


@cache
def eights_values(name: str, values: tuple[int, int, int]) -> NDArray[np.float32]:
    """What the points of a grid stand for when decoded: float32 (points, 8)."""
    table = np.array(values, np.float32)[grid_points(name, levels=LEVELS)]
    table.flags.writeable = False
    return table


@kernel
def _three(terms: Floats, at: Int) -> tuple[Float, Float, Float]:
    return terms[at], terms[at + LANES], terms[at + 2 * LANES]


@kernel
def _term(bits: Int, zero: Float, one: Float, two: Float) -> Float:
    """What the lowest two bits say."""
    return select(I32(bits & I32(2)) != I32(0), two, select(I32(bits & I32(1)) != I32(0), one, zero))


@disjoint_kernel
def nearest_code(
    terms: Floats, lane: Int, begin: Int, end: Int, codes: Ints, least: Floats, found: Ints
) -> Int:
    """The code of the nearest of codes[begin:end] by one column of terms. least, found: room for BLOCK float32, int32.

    Neighbours stand side by side: there is one sum each, in the order of the weights.
    """
    begin, lane = place(begin), place(lane)
    a0, a1, a2 = _three(terms, lane)
    b0, b1, b2 = _three(terms, lane + STRIDE)
    c0, c1, c2 = _three(terms, lane + 2 * STRIDE)
    d0, d1, d2 = _three(terms, lane + 3 * STRIDE)
    e0, e1, e2 = _three(terms, lane + 4 * STRIDE)
    f0, f1, f2 = _three(terms, lane + 5 * STRIDE)
    g0, g1, g2 = _three(terms, lane + 6 * STRIDE)
    h0, h1, h2 = _three(terms, lane + 7 * STRIDE)
    for j in range(BLOCK):
        least[j] = LARGEST
        found[j] = I32(0)
    for block in range(begin, end, BLOCK):
        at = place(block)
        for j in range(BLOCK):
            code = I32(codes[at + j])
            total = _term(code, a0, a1, a2)
            total += _term(I32(code >> 2), b0, b1, b2)
            total += _term(I32(code >> 4), c0, c1, c2)
            total += _term(I32(code >> 6), d0, d1, d2)
            total += _term(I32(code >> 8), e0, e1, e2)
            total += _term(I32(code >> 10), f0, f1, f2)
            total += _term(I32(code >> 12), g0, g1, g2)
            total += _term(I32(code >> 14), h0, h1, h2)
            nearer = (total < least[j]) & (at + j < end)
            least[j] = select(nearer, total, least[j])
            found[j] = select(nearer, I32(at + j - begin), found[j])
    # One whole number for distance and place: the bits of floats of one sign are in their order. The number of them
    # is a constant, but LLVM, if it knew, would go through them one by one.
    best = FARTHEST
    for j in range(place(least.size)):
        bits = np.int64(I32(as_bits(least[j])))
        bits = bits if bits >= 0 else bits ^ 0x7FFFFFFF
        best = min(best, (bits << 32) | np.int64(found[j]))
    return I32(codes[begin + (best & 0xFFFFFFFF)])


@kernel
def odd_step(inverse: Float, scale: Float, last: Int) -> Int:
    """The integer q, 0 to last, for which 2 q + 1 is nearest to inverse * scale."""
    return max(0, min(last, nearest_int(HALF * (inverse * scale - ONE))))
