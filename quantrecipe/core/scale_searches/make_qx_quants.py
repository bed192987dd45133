"""The best scale for groups of weights around zero: x ≈ scale * q, q an integer from -nmax to nmax - 1.

ggml: make_qx_quants with rmse_type 1. The weight of largest size becomes -nmax, and for eighteen tries a little
more or less; the integers that give the weighted least squares fit with the smallest error stay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from quantrecipe.core.bits import place, trips
from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import (
    LANES,
    UNROLL,
    WT,
    X,
    find_peaks,
    lane_row,
    nearest,
    nearest_int,
    select,
)
from quantrecipe.core.scalars import F32, I32, U8, ZERO, Bytes, Floats, Int

__all__ = [
    "BEST", "ISCALE", "KEPT_ISCALE", "PEAK", "SCALE", "SIZE", "SL2", "SXL",
    "fit_nearest", "make_qx_quants", "round_signed",
]  # fmt: skip

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
STEP = F32(0.1)
STEPS = 9

SCALE, KEPT_ISCALE, PEAK, SIZE, BEST, ISCALE, SXL, SL2 = (lane_row(i) for i in range(8))


@cache
def fit_nearest(n: int, nmax: int) -> Callable[..., None]:
    """The kernel fit(s): SXL and SL2 of the integers nearest to ISCALE * x, from -nmax to nmax - 1, for each group."""
    lowest, highest = F32(-nmax), F32(nmax - 1)

    @kernel
    def fit(s: Floats) -> None:
        for j in range(LANES):
            s[SXL + j] = ZERO
            s[SL2 + j] = ZERO
        for i0 in range(0, n, UNROLL):
            for j in range(LANES):
                sxl, sl2, iscale = s[SXL + j], s[SL2 + j], s[ISCALE + j]
                for u in range(UNROLL):
                    x = s[X + (i0 + u) * LANES + j]
                    w = s[WT + (i0 + u) * LANES + j]
                    q = nearest(iscale * x)
                    q = select(q > lowest, q, lowest)
                    q = select(q < highest, q, highest)
                    sxl += w * x * q
                    sl2 += w * q * q
                s[SXL + j], s[SL2 + j] = sxl, sl2

    return fit


@cache
def make_qx_quants(n: int, nmax: int) -> Callable[..., None]:
    """The kernel search(s) for groups of n weights at X, weighted by WT.

    Fills SCALE, and KEPT_ISCALE: the integers of the best try are those nearest to KEPT_ISCALE * x. Both are zero for a
    group without a weight above 1e-15.
    """
    top, lowest = F32(nmax), F32(-nmax)
    find_them, fit = find_peaks(n, PEAK, SIZE), fit_nearest(n, nmax)

    @kernel
    def search(s: Floats) -> None:
        find_them(s)

        for j in range(LANES):
            iscale = lowest / s[PEAK + j]
            empty = s[SIZE + j] < EPSILON
            s[ISCALE + j] = iscale
            s[KEPT_ISCALE + j] = select(empty, ZERO, iscale)
        fit(s)
        for j in range(LANES):
            scale = select(s[SL2 + j] != ZERO, s[SXL + j] / s[SL2 + j], ZERO)
            s[SCALE + j] = scale
            s[BEST + j] = scale * s[SXL + j]
            s[SL2 + j] = ZERO  # nothing tried yet

        # Keep the last try if it is the best, and begin the next.
        for step in range(-STEPS, STEPS + 2):
            if step != 0:
                wanted = -(top + STEP * F32(step))
                for j in range(LANES):
                    sxl, sl2 = s[SXL + j], s[SL2 + j]
                    scale = sxl / sl2
                    better = (sl2 > ZERO) & (sxl * sxl > s[BEST + j] * sl2)
                    s[SCALE + j] = select(better, scale, s[SCALE + j])
                    s[BEST + j] = select(better, scale * sxl, s[BEST + j])
                    s[KEPT_ISCALE + j] = select(better, s[ISCALE + j], s[KEPT_ISCALE + j])
                    s[ISCALE + j] = wanted / s[PEAK + j]
                if step <= STEPS:
                    fit(s)

        for j in range(LANES):
            empty = s[SIZE + j] < EPSILON
            s[SCALE + j] = select(empty, ZERO, s[SCALE + j])
            s[KEPT_ISCALE + j] = select(empty, ZERO, s[KEPT_ISCALE + j])

    return search


@cache
def round_signed(n: int, nmax: int) -> Callable[..., None]:
    """The kernel round_groups(x, at, count, scales, s, lane, levels): for each of count groups of n weights at x[at:]
    n integers, nmax added, from 0 to 2 nmax - 1.

    levels = the integers nearest to x / scales[g]; with a scale of zero, the search's own: those nearest to x *
    KEPT_ISCALE of the lane, and 0 (not nmax) for a group that had no weight to speak of.
    """
    lowest, highest, shift = I32(-nmax), I32(nmax - 1), I32(nmax)

    @kernel
    def round_groups(
        x: Floats, at: Int, count: Int, scales: Floats, s: Floats, lane: Int, levels: Bytes
    ) -> None:
        length = trips(n, levels)
        for g in range(count):
            first, to = place(at + g * n), place(g * n)
            scale, iscale = scales[g], s[KEPT_ISCALE + place(lane + g)]
            if scale != ZERO:
                for i in range(length):
                    q = nearest_int(x[first + i] / scale)
                    levels[to + i] = U8(I32(min(max(q, lowest), highest) + shift))
            elif iscale != ZERO:
                for i in range(length):
                    q = nearest_int(x[first + i] * iscale)
                    levels[to + i] = U8(I32(min(max(q, lowest), highest) + shift))
            else:
                for i in range(length):
                    levels[to + i] = U8(0)

    return round_groups
