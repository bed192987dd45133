"""The best scale for groups of weights, and which of two value tables fits them better.

ik_llama.cpp: quantize_row_iq4_k_impl_bs16 and its kin. The weight of largest size becomes the table's first value, or
up to a few steps more or less, with either sign of the scale; of all these tries over both tables, the weighted least
squares fit that catches the largest share of the weights, (∑ w x q)² / ∑ w q², stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.lanes import LANES, UNROLL, WT, X, find_peaks, lane_row, select
from quantrecipe.core.scalars import F32, ONE, U8, ZERO, Bytes, Float, Floats, Int

from quantrecipe_ik.core.value_tables import Table, value_near

__all__ = ["search_values"]

EPSILON = F32(1e-16)

(
    SCALE, SHIFTED, PEAK, SIZE, BEST, ISCALE, SXL, SL2, MINUS_SXL, MINUS_SL2,
) = (lane_row(i) for i in range(10))  # fmt: skip


@cache
def search_values(
    table: Table, n: int, *, tries: int, step: int = 1, guarded: bool = False, refit: bool = False
) -> Callable[..., None]:
    """The kernel search(s, at, count, scales, counts, shifted), as `encoders` takes it, for groups of n weights.

    tries:   on each side of the first value
    step:    between two tries
    guarded: the very first fit counts only if ∑ w q² > 0, as in the formats of three bits
    refit:   the scale that was found is fitted once more, to the values nearest to it
    """
    find = find_peaks(n, PEAK, SIZE)
    by, first, first_shifted = F32(step), F32(table.plain[0]), F32(table.shifted[0])
    fit, fit_shifted, refit_once = _fit(n, table.plain), _fit(n, table.shifted), _refit(n, table)

    @kernel
    def keep_better(s: Floats, sxl: Float, sl2: Float, is_shifted: Float) -> None:
        for j in range(LANES):
            xl, l2 = s[sxl + j], s[sl2 + j]
            scale = xl / l2
            better = (l2 > ZERO) & (xl * xl > s[BEST + j] * l2)
            s[SCALE + j] = select(better, scale, s[SCALE + j])
            s[BEST + j] = select(better, scale * xl, s[BEST + j])
            s[SHIFTED + j] = select(better, is_shifted, s[SHIFTED + j])

    @kernel
    def search(s: Floats, at: Int, count: Int, scales: Floats, counts: Floats, shifted: Bytes) -> None:
        find(s)
        for j in range(LANES):
            s[SHIFTED + j] = ZERO

        for j in range(LANES):
            s[SCALE + j] = -s[PEAK + j] / first
            s[ISCALE + j] = ONE / s[SCALE + j]
        fit(s)
        for j in range(LANES):
            scale = s[SXL + j] / s[SL2 + j]
            use = (s[SL2 + j] > ZERO) | (not guarded)
            s[SCALE + j] = select(use, scale, s[SCALE + j])
            s[BEST + j] = select(use, scale * s[SXL + j], ZERO)
        keep_better(s, MINUS_SXL, MINUS_SL2, ZERO)

        for k in range(-tries, tries + 1):
            for j in range(LANES):
                s[ISCALE + j] = (F32(k) * by + first) / s[PEAK + j]
            fit(s)
            keep_better(s, SXL, SL2, ZERO)
            keep_better(s, MINUS_SXL, MINUS_SL2, ZERO)
            for j in range(LANES):
                s[ISCALE + j] = (F32(k) * by + first_shifted) / s[PEAK + j]
            fit_shifted(s)
            keep_better(s, SXL, SL2, ONE)
            keep_better(s, MINUS_SXL, MINUS_SL2, ONE)

        if refit:
            refit_once(s)
        for j in range(LANES):
            empty = s[SIZE + j] < EPSILON
            s[SCALE + j] = select(empty, ZERO, s[SCALE + j])
            s[SHIFTED + j] = select(empty, ZERO, s[SHIFTED + j])
        for j in range(count):
            scales[at + j], shifted[at + j] = s[SCALE + j], U8(s[SHIFTED + j])

    return search


@cache
def _fit(n: int, values: tuple[int, ...]) -> Callable[[Any], None]:
    """The kernel fit(s): SXL and SL2 of the values nearest to ISCALE * x, MINUS_SXL and MINUS_SL2 to -ISCALE * x."""
    near = value_near(values)

    @kernel
    def fit(s: Floats) -> None:
        for j in range(LANES):
            s[SXL + j] = ZERO
            s[SL2 + j] = ZERO
            s[MINUS_SXL + j] = ZERO
            s[MINUS_SL2 + j] = ZERO
        for i0 in range(0, n, UNROLL):
            for j in range(LANES):
                sxl, sl2, iscale = s[SXL + j], s[SL2 + j], s[ISCALE + j]
                minus_sxl, minus_sl2 = s[MINUS_SXL + j], s[MINUS_SL2 + j]
                for u in range(UNROLL):
                    x = s[X + (i0 + u) * LANES + j]
                    w = s[WT + (i0 + u) * LANES + j]
                    y = iscale * x
                    q = near(y)
                    sxl += w * q * x
                    sl2 += w * q * q
                    q = near(-y)
                    minus_sxl += w * q * x
                    minus_sl2 += w * q * q
                s[SXL + j], s[SL2 + j] = sxl, sl2
                s[MINUS_SXL + j], s[MINUS_SL2 + j] = minus_sxl, minus_sl2

    return fit


@cache
def _refit(n: int, table: Table) -> Callable[[Any], None]:
    """The kernel refit(s): SCALE fitted to the values nearest to x / SCALE, unless it is zero."""
    lowest, lowest_shifted, end = F32(table.plain[0]), F32(table.shifted[0]), F32(table.end)
    near, near_shifted = value_near(table.plain), value_near(table.shifted)

    @kernel
    def refit(s: Floats) -> None:
        for j in range(LANES):
            s[SXL + j] = ZERO
            s[SL2 + j] = ZERO
            s[ISCALE + j] = ONE / s[SCALE + j]
        for i in range(n):
            for j in range(LANES):
                x, w = s[X + i * LANES + j], s[WT + i * LANES + j]
                y = s[ISCALE + j] * x
                is_shifted = s[SHIFTED + j] != ZERO
                q = select(is_shifted, near_shifted(y), near(y))
                q = select(y < end, q, select(is_shifted, lowest_shifted, lowest))
                s[SXL + j] += w * q * x
                s[SL2 + j] += w * q * q
        for j in range(LANES):
            use = (s[SL2 + j] > ZERO) & (s[SCALE + j] != ZERO)
            s[SCALE + j] = select(use, s[SXL + j] / s[SL2 + j], s[SCALE + j])

    return refit
