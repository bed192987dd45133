"""Sixteen uneven values for x / scale, denser around zero: what IQ4_NL and IQ4_XS share.

ggml: kvalues_iq4nl, best_index_int8, quantize_row_iq4_nl_impl with 7 tries on each side. The weight of largest size
becomes -127, or a little more or less; the scale whose weighted least squares fit has the smallest error stays.

The nearest value is found without a search: it grows with x / scale, so the number of half-way points that are not
above x / scale is its index. ggml's own comparison of two rounded differences changes sides exactly at these points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quantrecipe.core.jit import ENCODE, ENCODE_WEIGHTED, kernel
from quantrecipe.core.lanes import (
    LANES,
    UNROLL,
    WORKSPACE,
    WT,
    X,
    find_peaks,
    lane_row,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
    weigh_by_square,
)
from quantrecipe.core.scalars import F32, ONE, U8, ZERO, Bytes, Float, Floats, Int

__all__ = ["GROUP", "SCALE", "VALUES", "encoders", "put_indices", "round_values"]

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
_find_peaks = find_peaks(GROUP, PEAK, SIZE)


@kernel
def value_near(x: Float) -> Float:
    """The value nearest to a float32, the upper one of two; the largest for NaN, as in ggml."""
    value = LOWEST
    for i in range(ABOVE):
        value = value if x < HALFWAY[i] else CHOICES[i + 1]
    return value


@kernel
def index_near(x: Float) -> Int:
    """The index (uint8) of that value."""
    index = U8(0)
    for i in range(ABOVE):
        index = index if x < HALFWAY[i] else U8(i + 1)
    return index


@kernel
def fit(s: Floats) -> None:
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
def search(s: Floats) -> None:
    """Fill SCALE for the groups at X, weighted by WT: zero for a group without a weight above 1e-15."""
    _find_peaks(s)

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


_load, _load_importance = load_groups(GROUP), load_importance(GROUP)
_weigh, _weigh_plain = weigh_by_size(GROUP), weigh_by_square(GROUP)


def encoders(
    block: int, finish: Callable[..., None]
) -> tuple[Callable[[Any, Any], None], Callable[[Any, Any, Any], None]]:
    """The kernels encode(rows, out) and encode(rows, importance, out) for blocks of so many weights.

    Without importance a weight counts its square, with it importance * sqrt(twice the mean square of its block + its
    own square). finish(x, b, s, lane, to) writes block b of flat x; the SCALE of its groups is in the lanes from `lane`
    on.
    """
    groups = block // GROUP
    twice_mean = F32(2 / block)

    @kernel(ENCODE)
    def encode(rows: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, total = np.empty(WORKSPACE, np.float32), x.size // GROUP
        for first in range(0, total, LANES):
            count = min(LANES, total - first)
            _load(x, first, count, s)
            _weigh_plain(s)
            search(s)
            for lane in range(0, count, groups):
                finish(x, (first + lane) // groups, s, lane, to)

    @kernel(ENCODE_WEIGHTED)
    def encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, total = np.empty(WORKSPACE, np.float32), x.size // GROUP
        squares, even = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        for first in range(0, total, LANES):
            count = min(LANES, total - first)
            sums_of_squares(x, first // groups, count // groups, block, squares)
            for j in range(LANES):
                even[j] = squares[min(j, count - 1) // groups] * twice_mean
            _load(x, first, count, s)
            _load_importance(importance, first, count, s)
            _weigh(even, s)
            search(s)
            for lane in range(0, count, groups):
                finish(x, (first + lane) // groups, s, lane, to)

    return encode, encode_weighted


@kernel
def round_values(x: Floats, at: Int, scale: Float, to: Bytes, place: Int) -> None:
    """Pack a group: byte place + i of `to` holds the indices nearest to x / scale of weights i and 16 + i."""
    iscale = ONE / scale if scale != ZERO else ZERO
    for i in range(GROUP // 2):
        low = index_near(iscale * x[at + i])
        high = index_near(iscale * x[at + GROUP // 2 + i])
        to[place + i] = low | U8(high << U8(4))


@kernel
def put_indices(indices: Bytes, first: Int, to: Bytes, place: Int) -> None:
    """Pack the indices of a group, which begin at `first`, into 16 bytes from `place` on."""
    for i in range(GROUP // 2):
        to[place + i] = indices[first + i] | U8(indices[first + GROUP // 2 + i] << U8(4))
