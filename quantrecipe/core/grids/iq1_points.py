"""Groups cut in three become points of IQ1's grid, and get the scale that fits these: x ≈ scale * (q - 1 + shift).

ggml: quantize_row_iq1_s_impl, quantize_row_iq1_m_impl, iq1_find_best_neighbour2.

    s      rows of LANES float32, one group of n weights per lane (see `lanes.py` for X and WT)
    scale  LANES float32
    shift  n / 8 rows of LANES float32, 0.125 or -0.125
    codes  n / 8 rows of LANES int32: the integers of each eight, 2 bits each
    moved  LANES int32: 1 where a code was not a point
    terms  TERMS rows of LANES float32 (see `points_of_eight.py`)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.grids.points_of_eight import BLOCK, EIGHT, LEVELS, nearest_code
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import LANES, WT, X
from quantrecipe.core.scalars import F32, I32, ONE, ZERO, Float, Floats, Int, Ints, Tables

__all__ = ["SHIFT", "fit_points", "to_points"]

SHIFT = F32(0.125)  # ggml: IQ1S_DELTA, IQ1M_DELTA


@disjoint_kernel
def _fill_terms(s: Floats, k: Int, scale: Floats, shift: Floats, terms: Floats) -> None:
    for i in range(EIGHT):
        for q in range(LEVELS):
            value = F32(q - 1)
            for j in range(LANES):
                at = place((EIGHT * k + i) * LANES + j)
                d = scale[j] * (value + shift[place(k * LANES + j)]) - s[X + at]
                terms[(i * LEVELS + q) * LANES + j] = s[WT + at] * d * d


@cache
def to_points(n: int) -> Callable[..., None]:
    """The kernel move(s, count, scale, shift, codes, moved, terms, book): codes become those of points."""

    @kernel
    def move(
        s: Floats,
        count: Int,
        scale: Float,
        shift: Float,
        codes: Ints,
        moved: Ints,
        terms: Floats,
        book: Tables,
    ) -> None:
        _, first, _, near, _ = book
        least, found = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
        moved[:] = I32(0)
        for k in range(n // EIGHT):
            _fill_terms(s, k, scale, shift, terms)
            for j in range(count):
                code = codes[k * LANES + j]
                begin, end = first[code], first[code + 1]
                if end > begin:
                    codes[k * LANES + j] = nearest_code(terms, j, begin, end, near, least, found)
                    moved[j] = I32(1)

    return move


@cache
def fit_points(n: int) -> Callable[..., None]:
    """The kernel fit(s, shift, codes, moved, sums, scale): the scale that fits best, where codes have moved.

    sums: room for 2 rows of LANES float32
    """

    @disjoint_kernel
    def fit(s: Floats, shift: Floats, codes: Ints, moved: Ints, sums: Floats, scale: Floats) -> None:
        for j in range(2 * LANES):
            sums[j] = ZERO
        for k in range(n // EIGHT):
            for j in range(LANES):
                sxl, sl2 = sums[j], sums[LANES + j]
                code, delta = codes[k * LANES + j], shift[k * LANES + j]
                for i in range(EIGHT):
                    q = F32(I32(I32(code >> I32(2 * i)) & I32(3))) - ONE + delta
                    w, x = s[WT + (EIGHT * k + i) * LANES + j], s[X + (EIGHT * k + i) * LANES + j]
                    sxl += w * q * x
                    sl2 += w * q * q
                sums[j], sums[LANES + j] = sxl, sl2
        for j in range(LANES):
            sxl, sl2 = sums[j], sums[LANES + j]
            better = (moved[j] != I32(0)) & (sxl > ZERO) & (sl2 > ZERO)
            scale[j] = sxl / sl2 if better else scale[j]

    return fit
