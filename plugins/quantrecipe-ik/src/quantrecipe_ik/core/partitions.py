"""The best scale for groups of weights with four values each: all ways to share out the sorted weights are tried.

ik_llama.cpp: quantize_row_iq2_k_impl, quantize_row_iq2_ks_impl. Sorted, the weights up to i1 take the first value, up
to i2 the second, up to i3 the third, the others the fourth, or in reverse; with either table. Of all these, the least
squares fit that catches the largest share, (∑ w x q)² / ∑ w q², stays. Sums over sorted weights give each fit at once.

Two passes. The first goes in larger steps and keeps the best fit as a fraction, without a division. The second compares
as the reference does, in its order and with its rounding, looking closely only where a fit comes near the best so far.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, WT, X, select
from quantrecipe.core.scalars import F32, I32, ONE, U8, ZERO, Bytes, Float, Floats, Int

from quantrecipe_ik.core.value_tables import TWO_BITS

__all__ = ["SIGMA", "search_partitions"]

EPSILON = F32(1e-16)
COARSE = 3
NEAR = F32(1 - 2e-5)
"""Fits that fall short of the best by more than this can't win, however their sums are rounded."""
PRECISE = F32(1e-30)
"""Below this, products lose their places, and all fits are looked at closely."""
SIGMA = 1.5

LONGEST = 32
# sums: rows of LANES numbers. Of the tails, the part of a fit beyond i3, there are four of each kind: by table and
# direction.
SUM_X, SUM_W, TAIL_X, TAIL_W = (row * (LONGEST + 1) * LANES for row in (0, 1, 2, 6))
SIDE = (LONGEST + 1) * LANES
SUMS = 10 * SIDE
# heads: four rows of each, the part of a fit up to i2.
HEAD_X, HEAD_W = 0, 4 * LANES
HEADS = 8 * LANES
# best
BEST, SCALE, SHIFTED, FLOOR, NUMERATOR, DENOMINATOR = (row * LANES for row in range(6))
RESULTS = 6 * LANES

_plain, _shifted = (tuple(F32(value) for value in values) for values in (TWO_BITS.plain, TWO_BITS.shifted))
ORDERS = (_plain, _shifted, _plain[::-1], _shifted[::-1])
A1, A2, A3, A4 = _plain
B1, B2, B3, B4 = _shifted


@cache
def _sort(n: int) -> Callable[[Any, Any], None]:
    """The kernel sort(s, sums): SUM_X and SUM_W, sums of w x and of w over the first weights in rising order."""

    @kernel
    def sort(s: Floats, sums: Floats) -> None:
        ranks, order = np.zeros(n * LANES, np.int32), np.empty(n, np.int64)
        lanes = trips(LANES, s)
        for i in range(n):
            for k in range(i):
                for j in range(lanes):
                    later = I32(s[X + i * LANES + j] >= s[X + k * LANES + j])
                    ranks[i * LANES + j] += later
                    ranks[k * LANES + j] += I32(1) - later
        for j in range(LANES):
            for i in range(n):
                order[place(ranks[i * LANES + j])] = i
            sum_x, sum_w = ZERO, ZERO
            sums[SUM_X + j], sums[SUM_W + j] = sum_x, sum_w
            for i in range(n):
                at = place(order[i]) * LANES + j
                sum_w = sum_w + s[WT + at]
                sum_x = sum_x + s[WT + at] * s[X + at]
                sums[SUM_X + (i + 1) * LANES + j], sums[SUM_W + (i + 1) * LANES + j] = sum_x, sum_w

    return sort


@cache
def _prepare(n: int) -> Callable[[Any], None]:
    """The kernel prepare(sums): TAIL_X and TAIL_W for each i3."""
    last = n * LANES

    @kernel
    def prepare(sums: Floats) -> None:
        for order, values in enumerate(ORDERS):
            v = values[3]
            for i in range(n):
                for j in range(LANES):
                    sums[TAIL_X + order * SIDE + i * LANES + j] = (
                        sums[SUM_X + last + j] - sums[SUM_X + i * LANES + j]
                    ) * v
                    rest = sums[SUM_W + last + j] - sums[SUM_W + i * LANES + j]
                    sums[TAIL_W + order * SIDE + i * LANES + j] = rest * v * v

    return prepare


@disjoint_kernel
def _set_heads(sums: Floats, heads: Floats, i1: Int, i2: Int) -> None:
    """HEAD_X and HEAD_W."""
    at1, at2 = place(i1 * LANES), place(i2 * LANES)
    for order, values in enumerate(ORDERS):
        v, u = values[0], values[1]
        for j in range(LANES):
            x1, x2 = sums[SUM_X + at1 + j], sums[SUM_X + at2 + j]
            w1, w2 = sums[SUM_W + at1 + j], sums[SUM_W + at2 + j]
            heads[HEAD_X + order * LANES + j] = x1 * v + (x2 - x1) * u
            heads[HEAD_W + order * LANES + j] = w1 * v * v + (w2 - w1) * u * u


@kernel
def _fits(sums: Floats, heads: Floats, at2: Int, at3: Int, j: Int) -> tuple[Float, ...]:
    """(∑ w x q, ∑ w q²) of one lane, for each table and direction."""
    x = sums[SUM_X + at3 + j] - sums[SUM_X + at2 + j]
    w = sums[SUM_W + at3 + j] - sums[SUM_W + at2 + j]
    return (
        heads[HEAD_X + j] + x * A3 + sums[TAIL_X + at3 + j],
        heads[HEAD_W + j] + w * A3 * A3 + sums[TAIL_W + at3 + j],
        heads[HEAD_X + LANES + j] + x * B3 + sums[TAIL_X + SIDE + at3 + j],
        heads[HEAD_W + LANES + j] + w * B3 * B3 + sums[TAIL_W + SIDE + at3 + j],
        heads[HEAD_X + 2 * LANES + j] + x * A2 + sums[TAIL_X + 2 * SIDE + at3 + j],
        heads[HEAD_W + 2 * LANES + j] + w * A2 * A2 + sums[TAIL_W + 2 * SIDE + at3 + j],
        heads[HEAD_X + 3 * LANES + j] + x * B2 + sums[TAIL_X + 3 * SIDE + at3 + j],
        heads[HEAD_W + 3 * LANES + j] + w * B2 * B2 + sums[TAIL_W + 3 * SIDE + at3 + j],
    )


@kernel
def _larger(num: Float, den: Float, xl: Float, l2: Float) -> tuple[Float, Float]:
    """The fraction num / den, or that of a fit, if that is larger."""
    better = (l2 > ZERO) & (xl * xl * den > num * l2)
    return select(better, xl * xl, num), select(better, l2, den)


@disjoint_kernel
def _scan(sums: Floats, heads: Floats, best: Floats, i2: Int, start: Int, n: Int) -> None:
    """NUMERATOR and DENOMINATOR: the best so far, and with i3 from start to n."""
    at2 = place(i2 * LANES)
    for i3 in range(start, n):
        at3 = place(i3 * LANES)
        for j in range(LANES):
            xl, l2, shifted_xl, shifted_l2, down_xl, down_l2, last_xl, last_l2 = _fits(
                sums, heads, at2, at3, j
            )
            num, den = best[NUMERATOR + j], best[DENOMINATOR + j]
            num, den = _larger(num, den, xl, l2)
            num, den = _larger(num, den, shifted_xl, shifted_l2)
            num, den = _larger(num, den, down_xl, down_l2)
            num, den = _larger(num, den, last_xl, last_l2)
            best[NUMERATOR + j], best[DENOMINATOR + j] = num, den


@kernel
def _better(best: Floats, j: Int, xl: Float, l2: Float, shifted: Float) -> None:
    """Keep a fit that catches more, as the reference compares."""
    better = (l2 > ZERO) & (xl * xl > best[BEST + j] * l2)
    scale = xl / l2
    best[SCALE + j] = select(better, scale, best[SCALE + j])
    best[BEST + j] = select(better, scale * xl, best[BEST + j])
    best[SHIFTED + j] = select(better, shifted, best[SHIFTED + j])


@disjoint_kernel
def _scan_closely(sums: Floats, heads: Floats, best: Floats, i2: Int, start: Int, n: Int) -> None:
    """BEST, SCALE and SHIFTED: the best so far, and with i3 from start to n."""
    at2 = place(i2 * LANES)
    for i3 in range(start, n):
        at3 = place(i3 * LANES)
        found = I32(0)
        for j in range(LANES):
            xl, l2, shifted_xl, shifted_l2, down_xl, down_l2, last_xl, last_l2 = _fits(
                sums, heads, at2, at3, j
            )
            floor = best[FLOOR + j]
            near = I32(xl * xl > floor * l2) | I32(shifted_xl * shifted_xl > floor * shifted_l2)
            near |= I32(down_xl * down_xl > floor * down_l2) | I32(last_xl * last_xl > floor * last_l2)
            found |= I32(near)
        if found:
            for j in range(LANES):
                xl, l2, shifted_xl, shifted_l2, down_xl, down_l2, last_xl, last_l2 = _fits(
                    sums, heads, at2, at3, j
                )
                _better(best, j, xl, l2, ZERO)
                _better(best, j, shifted_xl, shifted_l2, ONE)
                _better(best, j, down_xl, down_l2, ZERO)
                _better(best, j, last_xl, last_l2, ONE)
                best[FLOOR + j] = max(best[FLOOR + j], best[BEST + j])


@cache
def search_partitions(n: int, ends: tuple[int, int]) -> Callable[..., None]:
    """The kernel search(s, at, count, scales, counts, shifted), as `encoders` takes it, for groups of n weights.

    ends: i1 stays below the first, i3 doesn't fall below the second.
    """
    sort, prepare = _sort(n), _prepare(n)
    end1, start3 = ends

    @kernel
    def search(s: Floats, at: Int, count: Int, scales: Floats, counts: Floats, shifted: Bytes) -> None:
        sums, heads = np.empty(SUMS, np.float32), np.empty(HEADS, np.float32)
        best = np.empty(RESULTS, np.float32)
        sort(s, sums)
        prepare(sums)
        for j in range(LANES):
            best[NUMERATOR + j], best[DENOMINATOR + j] = ZERO, ONE
            best[BEST + j], best[SCALE + j], best[SHIFTED + j] = ZERO, ZERO, ZERO
        for i1 in range(0, end1, COARSE):
            for i2 in range(i1, n, COARSE):
                _set_heads(sums, heads, i1, i2)
                _scan(sums, heads, best, i2, max(i2, start3), n)
        for j in range(LANES):
            share = best[NUMERATOR + j] / best[DENOMINATOR + j]
            known = (best[NUMERATOR + j] > PRECISE) & (share > PRECISE) & (share < F32(np.inf))
            best[FLOOR + j] = select(known, share * NEAR, ZERO)
        for i1 in range(end1):
            for i2 in range(i1, n):
                _set_heads(sums, heads, i1, i2)
                _scan_closely(sums, heads, best, i2, max(i2, start3), n)
        size = np.zeros(LANES, np.float32)
        for i in range(n):
            for j in range(LANES):
                size[j] = max(size[j], abs(s[X + i * LANES + j]))
        for j in range(LANES):
            best[SCALE + j] = select(size[j] < EPSILON, ZERO, best[SCALE + j])
            best[SHIFTED + j] = select(size[j] < EPSILON, ZERO, best[SHIFTED + j])
        for j in range(count):
            scales[at + j], shifted[at + j] = best[SCALE + j], U8(best[SHIFTED + j])
            total = ZERO
            for i in range(n):
                total += s[WT + i * LANES + j]
            counts[at + j] = total

    return search
