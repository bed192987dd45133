"""The nearest neighbours of one eight for many scales at once: every column of `rows` is a scale.

See `points_of_eight.py`.

    rows  float32, ROWS rows of ROW columns; for the integers q of a point, and x, w of the eight weights,
      row q_0 + 3 q_1 + 9 q_2       the first three terms w (scale * (2 q + 1) - x)², added up in their order
      row SUMS + 3 (i - 3) + q_i    the term of weight i, from 3 on

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
def fill_rows(s: Floats, at: Int, scales: Floats, first: Int, rows: Floats, column: Int) -> None:
    """Fill WIDTH columns of rows, from one on, for the eight at a place and the tries with scales[first:]."""
    at, first, column = place(at), place(first), place(column)
    x, y, z = s[X + at], s[X + at + LANES], s[X + at + 2 * LANES]
    u, v, w = s[ROOT + at], s[ROOT + at + LANES], s[ROOT + at + 2 * LANES]
    for j in range(WIDTH):
        one, to = scales[first + j], column + j
        three, five = one * THREE, one * FIVE
        x0, x1, x2 = u * (one - x) * (one - x), u * (three - x) * (three - x), u * (five - x) * (five - x)
        y0, y1, y2 = v * (one - y) * (one - y), v * (three - y) * (three - y), v * (five - y) * (five - y)
        z0, z1, z2 = w * (one - z) * (one - z), w * (three - z) * (three - z), w * (five - z) * (five - z)
        _put_sums(rows, to, x0 + y0, x1 + y0, x2 + y0, z0, z1, z2)
        _put_sums(rows, to + 3 * ROW, x0 + y1, x1 + y1, x2 + y1, z0, z1, z2)
        _put_sums(rows, to + 6 * ROW, x0 + y2, x1 + y2, x2 + y2, z0, z1, z2)
    x3, x4, x5, x6, x7 = _five(s, X + at + TOGETHER * LANES)
    w3, w4, w5, w6, w7 = _five(s, ROOT + at + TOGETHER * LANES)
    for j in range(WIDTH):  # all five at once: a shorter loop LLVM unrolls into scalars
        one, to = scales[first + j], SUMS * ROW + column + j
        _put_terms(rows, to, one, x3, w3)
        _put_terms(rows, to + 3 * ROW, one, x4, w4)
        _put_terms(rows, to + 6 * ROW, one, x5, w5)
        _put_terms(rows, to + 9 * ROW, one, x6, w6)
        _put_terms(rows, to + 12 * ROW, one, x7, w7)


@kernel
def _five(s: Floats, at: Int) -> tuple[Float, ...]:
    return s[at], s[at + LANES], s[at + 2 * LANES], s[at + 3 * LANES], s[at + 4 * LANES]


@kernel
def _put_terms(rows: Floats, to: Int, scale: Float, x: Float, w: Float) -> None:
    d0, d1, d2 = scale - x, scale * THREE - x, scale * FIVE - x
    rows[to], rows[to + ROW], rows[to + 2 * ROW] = w * d0 * d0, w * d1 * d1, w * d2 * d2


@kernel
def _put_sums(rows: Floats, to: Int, a: Float, b: Float, c: Float, z0: Float, z1: Float, z2: Float) -> None:
    rows[to], rows[to + ROW], rows[to + 2 * ROW] = a + z0, b + z0, c + z0
    rows[to + 9 * ROW], rows[to + 10 * ROW], rows[to + 11 * ROW] = a + z1, b + z1, c + z1
    rows[to + 18 * ROW], rows[to + 19 * ROW], rows[to + 20 * ROW] = a + z2, b + z2, c + z2


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
        a0, a1, a2, a3, a4, a5 = _rows_of(places, a)
        b0, b1, b2, b3, b4, b5 = _rows_of(places, b)
        for j in range(WIDTH):
            i = column + j
            sum_a = rows[a0 + i] + rows[a1 + i] + rows[a2 + i] + rows[a3 + i] + rows[a4 + i] + rows[a5 + i]
            sum_b = rows[b0 + i] + rows[b1 + i] + rows[b2 + i] + rows[b3 + i] + rows[b4 + i] + rows[b5 + i]
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
    return places[p], places[p + 1], places[p + 2], places[p + 3], places[p + 4], places[p + 5]
