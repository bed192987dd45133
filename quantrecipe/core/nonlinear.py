"""Sixteen uneven values for x / scale, denser around zero: what IQ4_NL and IQ4_XS share.

ggml: kvalues_iq4nl, best_index_int8, quantize_row_iq4_nl_impl with 7 tries on each side. The weight of largest size
becomes -127, or a little more or less; the scale whose weighted least squares fit has the smallest error stays.

The nearest value is found without a search: it grows with x / scale, so the number of half-way points that are not
above x / scale is its index. ggml's own comparison of two rounded differences changes sides exactly at these points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import (
    LANES,
    UNROLL,
    WT,
    X,
    lane_row,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, ONE, U8, ZERO

__all__ = ["GROUP", "SCALE", "VALUES", "find_plain", "find_weighted", "round_values"]

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS

GROUP = 32
"""Weights with a common scale."""
VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], F32)
"""ggml: kvalues_iq4nl."""
# As tuples, their numbers become constants of the compiled code.
CHOICES = tuple(VALUES)
HALFWAY = tuple((VALUES[:-1] + VALUES[1:]) / F32(2))
ABOVE = len(HALFWAY)
LOWEST = CHOICES[0]
TRIES = 7

SCALE, PEAK, SIZE, BEST, ISCALE, SXL, SL2 = (lane_row(i) for i in range(7))


@kernel
def value_near(x: Any) -> Any:
    """The value nearest to a float32, the upper one of two; the largest for NaN, as in ggml."""
    value = LOWEST
    for i in range(ABOVE):
        value = value if x < HALFWAY[i] else CHOICES[i + 1]
    return value


@kernel
def index_near(x: Any) -> Any:
    """The index (uint8) of that value."""
    index = U8(0)
    for i in range(ABOVE):
        index = index if x < HALFWAY[i] else U8(i + 1)
    return index


@kernel
def fit(s: Any) -> None:
    """SXL and SL2 of the values nearest to ISCALE * x."""
    for j in range(LANES):
        s[SXL + j] = ZERO
        s[SL2 + j] = ZERO
    for i0 in range(0, GROUP, UNROLL):
        for j in range(LANES):
            sxl, sl2, iscale = s[SXL + j], s[SL2 + j], s[ISCALE + j]
            for u in range(UNROLL):
                x = s[X + (i0 + u) * LANES + j]
                w = s[WT + (i0 + u) * LANES + j]
                q = value_near(iscale * x)
                sxl += w * q * x
                sl2 += w * q * q
            s[SXL + j], s[SL2 + j] = sxl, sl2


@kernel
def search(s: Any) -> None:
    """Fill SCALE for the groups at X, weighted by WT: zero for a group without a weight above 1e-15."""
    for j in range(LANES):
        s[PEAK + j] = ZERO
        s[SIZE + j] = ZERO
    for i in range(GROUP):
        for j in range(LANES):
            x = s[X + i * LANES + j]
            larger = abs(x) > s[SIZE + j]
            s[SIZE + j] = abs(x) if larger else s[SIZE + j]
            s[PEAK + j] = x if larger else s[PEAK + j]

    for j in range(LANES):
        s[ISCALE + j] = ONE / (-s[PEAK + j] / LOWEST)
    fit(s)
    for j in range(LANES):
        scale = s[SXL + j] / s[SL2 + j] if s[SL2 + j] > ZERO else ZERO
        s[SCALE + j] = scale
        s[BEST + j] = scale * s[SXL + j]

    for step in range(-TRIES, TRIES + 1):
        for j in range(LANES):
            s[ISCALE + j] = (F32(step) + LOWEST) / s[PEAK + j]
        fit(s)
        for j in range(LANES):
            sxl, sl2 = s[SXL + j], s[SL2 + j]
            scale = sxl / sl2
            better = (sl2 > ZERO) & (sxl * sxl > s[BEST + j] * sl2)
            s[SCALE + j] = scale if better else s[SCALE + j]
            s[BEST + j] = scale * sxl if better else s[BEST + j]

    for j in range(LANES):
        s[SCALE + j] = ZERO if s[SIZE + j] < EPSILON else s[SCALE + j]


_load, _load_importance, _weigh = load_groups(GROUP), load_importance(GROUP), weigh_by_size(GROUP)


@kernel
def find_plain(x: Any, first: Any, count: Any, s: Any) -> None:
    """SCALE of count ≤ LANES groups of flat x, from group first on; a weight counts as much as its square."""
    _load(x, first, count, s)
    for i in range(GROUP):
        for j in range(LANES):
            s[WT + i * LANES + j] = s[X + i * LANES + j] * s[X + i * LANES + j]
    search(s)


@cache
def find_weighted(block: int) -> Callable[..., None]:
    """The kernel find(x, importance, first, count, s): the same, in blocks of so many weights.

    A weight counts importance * sqrt(twice the mean square of its block + its own square).
    """
    groups = block // GROUP
    twice_mean = F32(2 / block)

    @kernel
    def find(x: Any, importance: Any, first: Any, count: Any, s: Any) -> None:
        squares, even = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        sums_of_squares(x, first // groups, count // groups, block, squares)
        for j in range(LANES):
            even[j] = squares[min(j, count - 1) // groups] * twice_mean
        _load(x, first, count, s)
        _load_importance(importance, first, count, s)
        _weigh(even, s)
        search(s)

    return find


@kernel
def round_values(x: Any, at: Any, scale: Any, to: Any, place: Any) -> None:
    """Pack a group: byte place + i of `to` holds the indices nearest to x / scale of weights i and 16 + i."""
    iscale = ONE / scale if scale != ZERO else ZERO
    for i in range(GROUP // 2):
        low = index_near(iscale * x[at + i])
        high = index_near(iscale * x[at + GROUP // 2 + i])
        to[place + i] = low | U8(high << U8(4))
