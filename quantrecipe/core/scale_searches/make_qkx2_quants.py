"""The best scale and minimum for groups of weights: x ≈ scale * q + minimum, q an integer from 0 to nmax.

ggml: make_qkx2_quants and make_qkx3_quants, which agree for finite weights. From the group's range as it is, a
number of steps tries slightly other ranges; each one's integers give a scale and a minimum by weighted least
squares; the one with the smallest weighted error stays. The minimum is never above zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import as_bits, place, trips
from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import LANES, UNROLL, WT, Q, X, lane_row, nearest, nearest_int, select
from quantrecipe.core.scalars import F32, I32, INF, ONE, U8, U32, ZERO, Bytes, Float, Floats, Int

__all__ = ["KEPT_BASE", "KEPT_ISCALE", "MINIMUM", "SCALE", "make_qkx2_quants", "round_scale_min"]

FAR = U32(np.float32(2.0**22).view(U32))
"""The bits of 2^22, from where on ggml's rounding gives other numbers. It happens where weights count for nothing
and lie far from those that count."""

SCALE, MINIMUM, KEPT_ISCALE, KEPT_BASE = (lane_row(i) for i in range(4))
LOW, HIGH, SUM_W, SUM_X, BEST, ISCALE, SL, SL2, SXL, TRY_SCALE, TRY_MIN, ERROR = (
    lane_row(i) for i in range(4, 16)
)


@kernel
def nearest_as_ggml(value: Float) -> Float:
    """The nearest integer as a float32, also where ggml's trick no longer rounds."""
    return F32(nearest_int(value))


@cache
def _fit(n: int, rounded: Callable[..., Any]) -> Callable[..., None]:
    """The kernel fit(s, nmax): Q, the integers of the present range, and the sums of their least squares fit."""

    @kernel
    def fit(s: Floats, nmax: Int) -> None:
        for j in range(LANES):
            s[SL + j] = ZERO
            s[SL2 + j] = ZERO
            s[SXL + j] = ZERO
        for i0 in range(0, n, UNROLL):
            for j in range(LANES):
                sl, sl2, sxl = s[SL + j], s[SL2 + j], s[SXL + j]
                iscale, base = s[ISCALE + j], s[MINIMUM + j]
                for u in range(UNROLL):
                    x = s[X + (i0 + u) * LANES + j]
                    q = rounded(iscale * (x - base))
                    q = select(q > ZERO, q, ZERO)
                    q = select(q < nmax, q, nmax)
                    s[Q + (i0 + u) * LANES + j] = q
                    wq = s[WT + (i0 + u) * LANES + j] * q
                    sl += wq
                    sl2 += wq * q
                    sxl += wq * x
                s[SL + j], s[SL2 + j], s[SXL + j] = sl, sl2, sxl

    return fit


@cache
def make_qkx2_quants(n: int, *, absolute: bool = False) -> Callable[..., None]:
    """The kernel search(s, nmax, rmin, rdelta, nstep) for groups of n weights at X, weighted by WT.

    Fills SCALE and MINIMUM, and KEPT_ISCALE and KEPT_BASE: the integers of the best try are those nearest to
    KEPT_ISCALE * (x - KEPT_BASE). With `absolute` the error is the sum of |x - x̂|, else of its squares.
    """

    near, far = _fit(n, nearest), _fit(n, nearest_as_ggml)

    @kernel
    def search(s: Floats, nmax: Int, rmin: Float, rdelta: Float, nstep: Int) -> None:
        # The range, and the sums that all tries share.
        for j in range(LANES):
            s[LOW + j] = s[X + j]
            s[HIGH + j] = s[X + j]
            s[SUM_W + j] = s[WT + j]
            s[SUM_X + j] = s[WT + j] * s[X + j]
        for i in range(1, n):
            for j in range(LANES):
                x = s[X + i * LANES + j]
                w = s[WT + i * LANES + j]
                s[LOW + j] = select(x < s[LOW + j], x, s[LOW + j])
                s[HIGH + j] = select(x > s[HIGH + j], x, s[HIGH + j])
                s[SUM_W + j] += w
                s[SUM_X + j] += w * x

        # The range as it is.
        for j in range(LANES):
            low = s[LOW + j]
            low = select(low > ZERO, ZERO, low)
            iscale = nmax / (s[HIGH + j] - low)
            s[LOW + j] = low
            s[SCALE + j] = ONE / iscale
            s[MINIMUM + j] = low
            # An infinite quotient rounds to 0 in ggml, whatever it is multiplied with.
            iscale = select(abs(iscale) < INF, iscale, ZERO)
            s[ISCALE + j] = iscale
            s[KEPT_ISCALE + j] = iscale
            s[KEPT_BASE + j] = low
            s[BEST + j] = ZERO
            s[ERROR + j] = INF  # nothing tried yet
        for i in range(n):
            for j in range(LANES):
                x = s[X + i * LANES + j]
                q = nearest(s[ISCALE + j] * (x - s[LOW + j]))
                q = select(q > ZERO, q, ZERO)
                q = select(q < nmax, q, nmax)
                d = s[SCALE + j] * q + s[LOW + j] - x
                s[BEST + j] += s[WT + i * LANES + j] * (abs(d) if absolute else d * d)

        for step in range(nstep + 2):
            # Keep the last try if it is the best, and begin the next with a slightly other range.
            wanted = rmin + rdelta * F32(step) + nmax
            farthest = U32(0)
            for j in range(LANES):
                better = s[ERROR + j] < s[BEST + j]
                s[BEST + j] = select(better, s[ERROR + j], s[BEST + j])
                s[KEPT_ISCALE + j] = select(better, s[ISCALE + j], s[KEPT_ISCALE + j])
                s[KEPT_BASE + j] = select(better, s[MINIMUM + j], s[KEPT_BASE + j])
                s[SCALE + j] = select(better, s[TRY_SCALE + j], s[SCALE + j])
                low = select(better, s[TRY_MIN + j], s[MINIMUM + j])
                s[MINIMUM + j] = low
                iscale = wanted / (s[HIGH + j] - low)
                iscale = select(abs(iscale) < INF, iscale, ZERO)
                s[ISCALE + j] = iscale
                above, below = s[HIGH + j] - low, low - s[LOW + j]
                farthest = max(farthest, as_bits(abs(iscale * select(above > below, above, below))))
            if step > nstep:
                break

            if farthest < FAR:
                near(s, nmax)
            else:
                far(s, nmax)

            # The fit; through zero where the minimum would be positive. A singular one never wins.
            for j in range(LANES):
                sl, sl2, sxl, sw, sx = s[SL + j], s[SL2 + j], s[SXL + j], s[SUM_W + j], s[SUM_X + j]
                det = sw * sl2 - sl * sl
                scale = (sw * sxl - sx * sl) / det
                low = (sl2 * sx - sl * sxl) / det
                through_zero = sxl / sl2
                s[TRY_SCALE + j] = select(low > ZERO, through_zero, scale)
                s[TRY_MIN + j] = select(low > ZERO, ZERO, low)
                s[ERROR + j] = select(det > ZERO, ZERO, INF)

            # Its error.
            for i0 in range(0, n, UNROLL):
                for j in range(LANES):
                    e, scale, low = s[ERROR + j], s[TRY_SCALE + j], s[TRY_MIN + j]
                    for u in range(UNROLL):
                        d = scale * s[Q + (i0 + u) * LANES + j] + low - s[X + (i0 + u) * LANES + j]
                        e += s[WT + (i0 + u) * LANES + j] * (abs(d) if absolute else d * d)
                    s[ERROR + j] = e

        # A group without a range has no scale.
        for j in range(LANES):
            flat = s[HIGH + j] == s[LOW + j]
            s[SCALE + j] = select(flat, ZERO, s[SCALE + j])
            s[MINIMUM + j] = select(flat, s[LOW + j], s[MINIMUM + j])
            s[KEPT_ISCALE + j] = select(flat, ZERO, s[KEPT_ISCALE + j])

    return search


@cache
def round_scale_min(n: int, nmax: int) -> Callable[..., None]:
    """The kernel round_group(x, at, scale, minimum, iscale, base, levels, to): n integers from 0 to nmax.

    levels[to:] = the integers nearest to (x[at:] + minimum) / scale. Where the scale was rounded to nothing, ggml
    leaves the search's own integers: those nearest to iscale * (x - base).
    """
    last = I32(nmax)
    none = I32(0)

    @kernel
    def round_group(
        x: Floats, at: Int, scale: Float, minimum: Float, iscale: Float, base: Float, levels: Bytes, to: Int
    ) -> None:
        at, to, length = place(at), place(to), trips(n, levels)
        if scale == ZERO:
            for i in range(length):
                q = nearest_int(iscale * (x[at + i] - base))
                levels[to + i] = U8(min(max(q, none), last))
        else:
            for i in range(length):
                q = nearest_int((x[at + i] + minimum) / scale)
                levels[to + i] = U8(min(max(q, none), last))

    return round_group
