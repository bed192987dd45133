"""The nearest neighbours of one eight for many scales at once: every column of `rows` is a scale.

See `points_of_eight.py`.

    rows  float32, ROWS rows of ROW columns; for the integers q of a point, and x, w of the eight weights,
      row q_0 + 3 q_1               the first two terms w (scale * (2 q + 1) - x)², added up
      row SUMS + 3 (i - 2) + q_i    the term of weight i, from 2 on

So a point's distance is a sum of PLACES rows, in the order in which ggml adds its terms.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.grids.points_of_eight import AT_ONCE, LARGEST, PLACES, ROOT, ROW, SUMS, TOGETHER, WIDTH
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import LANES, X
from quantrecipe.core.scalars import F32, Float, Floats, Int, Ints

__all__ = ["fill_rows", "walk_rows"]

THREE, FIVE = F32(3), F32(5)


@disjoint_kernel
def fill_rows(s: Floats, at: Int, scales: Floats, rows: Floats) -> None:
    """Fill a column for each of the scales, for the eight at a place."""
    at = place(at)
    x, y, v, w = s[X + at], s[X + at + LANES], s[ROOT + at], s[ROOT + at + LANES]
    for j in range(scales.size):
        one = scales[j]
        x0, x1, x2 = _three_terms(one, x, v)
        y0, y1, y2 = _three_terms(one, y, w)
        rows[j], rows[ROW + j], rows[2 * ROW + j] = x0 + y0, x1 + y0, x2 + y0
        rows[3 * ROW + j], rows[4 * ROW + j], rows[5 * ROW + j] = x0 + y1, x1 + y1, x2 + y1
        rows[6 * ROW + j], rows[7 * ROW + j], rows[8 * ROW + j] = x0 + y2, x1 + y2, x2 + y2
    x2, x3, x4, x5, x6, x7 = _six(s, X + at + TOGETHER * LANES)
    w2, w3, w4, w5, w6, w7 = _six(s, ROOT + at + TOGETHER * LANES)
    for j in range(scales.size):
        one, to = scales[j], SUMS * ROW + j
        rows[to], rows[to + ROW], rows[to + 2 * ROW] = _three_terms(one, x2, w2)
        rows[to + 3 * ROW], rows[to + 4 * ROW], rows[to + 5 * ROW] = _three_terms(one, x3, w3)
        rows[to + 6 * ROW], rows[to + 7 * ROW], rows[to + 8 * ROW] = _three_terms(one, x4, w4)
        rows[to + 9 * ROW], rows[to + 10 * ROW], rows[to + 11 * ROW] = _three_terms(one, x5, w5)
        rows[to + 12 * ROW], rows[to + 13 * ROW], rows[to + 14 * ROW] = _three_terms(one, x6, w6)
        rows[to + 15 * ROW], rows[to + 16 * ROW], rows[to + 17 * ROW] = _three_terms(one, x7, w7)


@kernel
def _six(s: Floats, at: Int) -> tuple[Float, ...]:
    return s[at], s[at + LANES], s[at + 2 * LANES], s[at + 3 * LANES], s[at + 4 * LANES], s[at + 5 * LANES]


@kernel
def _three_terms(scale: Float, x: Float, w: Float) -> tuple[Float, Float, Float]:
    """What a weight adds to a distance, for q = 0, 1 and 2."""
    d0, d1, d2 = scale - x, scale * THREE - x, scale * FIVE - x
    return w * d0 * d0, w * d1 * d1, w * d2 * d2


@disjoint_kernel
def walk_rows(
    rows: Floats, column: Int, begin: Int, end: Int, neighbours: Ints, codes: Ints, places: Ints, best: Floats
) -> None:
    """The nearest of neighbours[begin:end] for the WIDTH tries from a column on. best: distances, codes."""
    column, width = place(column), place(best.size >> 1)
    code = F32(codes[begin])
    for j in range(width):  # WIDTH; but a short constant loop LLVM unrolls into scalars
        best[j] = LARGEST
        best[width + j] = code
    for pair in range(begin, end, AT_ONCE):
        at = place(pair)
        a, b = neighbours[at], neighbours[at + 1]
        code_a, code_b = F32(codes[at]), F32(codes[at + 1])
        a0, a1, a2, a3, a4, a5, a6 = _rows_of(places, a)
        b0, b1, b2, b3, b4, b5, b6 = _rows_of(places, b)
        for j in range(WIDTH):
            i = column + j
            sum_a = rows[a0 + i] + rows[a1 + i] + rows[a2 + i] + rows[a3 + i]
            sum_a = sum_a + rows[a4 + i] + rows[a5 + i] + rows[a6 + i]
            sum_b = rows[b0 + i] + rows[b1 + i] + rows[b2 + i] + rows[b3 + i]
            sum_b = sum_b + rows[b4 + i] + rows[b5 + i] + rows[b6 + i]
            least, code = best[j], best[WIDTH + j]
            code = code_a if sum_a < least else code
            least = sum_a if sum_a < least else least
            code = code_b if sum_b < least else code
            least = sum_b if sum_b < least else least
            best[j] = least
            best[WIDTH + j] = code


@kernel
def _rows_of(places: Ints, point: Int) -> tuple[Int, ...]:
    """Where the rows begin whose sum is the distance of a point."""
    p = place(PLACES * np.int64(point))
    return (
        places[p], places[p + 1], places[p + 2], places[p + 3], places[p + 4], places[p + 5], places[p + 6],
    )  # fmt: skip
