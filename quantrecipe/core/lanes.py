"""Lanes: many groups of weights side by side, each computed in the reference's own order.

A sum of float32 may not be reordered, so one group can't be spread over a vector register. But groups don't
depend on each other: `LANES` of them stand side by side, and every lane does what the reference does to one.

    workspace  one flat float32 array of rows of LANES numbers, at constant offsets (a constant distance
               tells LLVM that rows don't overlap; separate arrays were measured to cost a third)
      row 0 … 23    one number per lane: sums, bounds, results
      X  (32 rows)  weights: row i holds the i-th weight of each lane's group
      WT (32 rows)  how much each weight counts
      Q  (32 rows)  the integers of the present try

What was measured to matter, and what a new kernel should do:

    loops over lanes innermost; loops over rows unrolled by four, so that sums stay in registers
    branches as selects of values that are there already; one branch makes the whole loop scalar
    a loop over lanes of some ten operations or more counts to LANES; a shorter one to trips(LANES, s), else it is
      unrolled instead of vectorised (up to ten times slower)
    32 lanes, two AVX-512 registers: half as fast again as 16, whose sums wait for each other
    kernels with array arguments are called for many groups at once; each call counts references
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import as_bits, place, trips
from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import F32, I32, U32, ZERO, Float, Floats, Int

__all__ = [
    "LANES",
    "UNROLL",
    "WORKSPACE",
    "WT",
    "Q",
    "X",
    "away_from_zero",
    "find_peaks",
    "first_largest",
    "lane_row",
    "load_groups",
    "load_importance",
    "nearest",
    "nearest_int",
    "select",
    "sums_of_squares",
    "weigh_by_size",
    "weigh_by_square",
    "weigh_in_rows",
]

LANES = 32
UNROLL = 4
LONGEST = 32
"""Weights of the longest group that fits the workspace."""


def lane_row(index: int) -> int:
    """Offset of the workspace's row of this number, 0 to 23."""
    return index * LANES


X = 24 * LANES
WT = X + LONGEST * LANES
Q = WT + LONGEST * LANES
WORKSPACE = Q + LONGEST * LANES
"""Floats in a workspace."""

ROUND = F32(12582912.0)  # 1.5 * 2^23: a float32 of this size has no places after the point
BELOW_HALF = np.nextafter(F32(0.5), F32(0))


@kernel
def select(condition: Any, yes: Any, no: Any) -> Any:
    """yes or no; both are there already, so that lanes take both ways at once instead of branching."""
    return yes if condition else no


@kernel
def nearest(value: Float) -> Float:
    """The integer nearest to a float32 below 2^22 in size, ties to even, as a float32."""
    return (value + ROUND) - ROUND


@kernel
def nearest_int(value: Float) -> Int:
    """The same as an int32; beyond 2^22 the bits that ggml's nearest_int gives: 0 for NaN, -2^22 for infinities."""
    return I32(I32(U32(as_bits(value + ROUND) & U32(0x007FFFFF))) - I32(0x00400000))


@kernel
def away_from_zero(value: Float) -> Float:
    """The integer nearest to a float32, halves away from zero as in C's roundf, as a float32.

    With a half itself, what lies just below a half would be rounded up by the addition.
    """
    return np.trunc(value + np.copysign(BELOW_HALF, value))


@cache
def find_peaks(n: int, peak: int, size: int) -> Callable[[Any], None]:
    """The kernel find(s): of the n weights at X, the first of those that are largest in size, and that size.

    peak, size: the rows of the workspace that they go to.
    """

    @kernel
    def find(s: Floats) -> None:
        for j in range(LANES):
            s[peak + j] = ZERO
            s[size + j] = ZERO
        for i in range(n):
            for j in range(LANES):
                x = s[X + i * LANES + j]
                larger = abs(x) > s[size + j]
                s[size + j] = select(larger, abs(x), s[size + j])
                s[peak + j] = select(larger, x, s[peak + j])

    return find


@cache
def load_groups(n: int) -> Callable[..., None]:
    """The kernel load(x, first, count, s): X of lane j = group first + j of n weights of flat x, for count groups.

    Lanes from count on repeat the last group, so that what they compute is as harmless as it is unused.
    """

    @kernel
    def load(x: Floats, first: Int, count: Int, s: Floats) -> None:
        for j in range(LANES):
            at = place((first + min(j, count - 1)) * n)
            for i in range(n):
                s[X + i * LANES + j] = x[at + i]

    return load


@cache
def load_importance(n: int) -> Callable[..., None]:
    """The kernel load(importance, first, count, s): WT = the importance of the columns of the groups at X."""

    @kernel
    def load(importance: Floats, first: Int, count: Int, s: Floats) -> None:
        k = importance.size
        for j in range(LANES):
            at = place(((first + min(j, count - 1)) * n) % k)
            for i in range(n):
                s[WT + i * LANES + j] = importance[at + i]

    return load


@cache
def weigh_by_square(n: int) -> Callable[[Any], None]:
    """The kernel weigh(s): WT = X², as ggml has it where there is no importance."""

    @kernel
    def weigh(s: Floats) -> None:
        for i in range(n):
            for j in range(LANES):
                s[WT + i * LANES + j] = s[X + i * LANES + j] * s[X + i * LANES + j]

    return weigh


@kernel
def first_largest(values: Floats, first: Int, count: Int) -> Float:
    """Of count values from `first` on, the first of those that are largest in size; 0 if all are 0. NaN is never it."""
    peak, size = ZERO, ZERO
    for i in range(first, first + count):
        value = values[i]
        peak = value if abs(value) > size else peak
        size = abs(value) if abs(value) > size else size
    return peak


@cache
def weigh_by_size(n: int) -> Callable[..., None]:
    """The kernel weigh(sigma, s): WT *= sqrt(sigma[j] + X²); sigma, LANES floats, evens out the weights' sizes."""

    @kernel
    def weigh(sigma: Floats, s: Floats) -> None:
        lanes = trips(LANES, s)
        for i in range(n):
            for j in range(lanes):
                x = s[X + i * LANES + j]
                s[WT + i * LANES + j] *= np.sqrt(sigma[j] + x * x)

    return weigh


@kernel
def sums_of_squares(x: Floats, first: Int, count: Int, n: Int, sums: Floats) -> None:
    """sums[j] = the sum, in order, of the squares of the n weights of x at (first + j) * n, for j below count.

    Eight sums go side by side, so that each addition need not wait for the one before.
    """
    for j0 in range(0, count, 8):
        a = b = c = d = e = f = g = h = ZERO
        at = place((first + j0) * n)
        step_b, step_c, step_d = _strides(j0, count, n, 1)
        step_e, step_f, step_g = _strides(j0, count, n, 4)
        step_h, _, _ = _strides(j0, count, n, 7)
        for i in range(at, at + n):
            a += x[i] * x[i]
            b += x[i + step_b] * x[i + step_b]
            c += x[i + step_c] * x[i + step_c]
            d += x[i + step_d] * x[i + step_d]
            e += x[i + step_e] * x[i + step_e]
            f += x[i + step_f] * x[i + step_f]
            g += x[i + step_g] * x[i + step_g]
            h += x[i + step_h] * x[i + step_h]
        for j, total in enumerate((a, b, c, d, e, f, g, h)):
            if j0 + j < count:
                sums[j0 + j] = total


@kernel
def _strides(j: Int, count: Int, n: Int, lane: Int) -> tuple[Int, Int, Int]:
    """Distance from sum j to the three from j + lane on; 0, a repetition, where there is none."""
    return (
        n * lane if j + lane < count else 0,
        n * (lane + 1) if j + lane + 1 < count else 0,
        n * (lane + 2) if j + lane + 2 < count else 0,
    )


@cache
def weigh_in_rows(n: int) -> Callable[..., None]:
    """The kernel weigh(x, importance, first, count, squares, s): X and WT of count ≤ LANES groups of flat x.

    A weight counts importance * sqrt(mean square of its row + its own square). squares is room for a float per row;
    calls come in the order of the groups, and group 0 fills it.
    """
    load, load_weights, weigh = load_groups(n), load_importance(n), weigh_by_size(n)

    @kernel
    def weigh_rows(x: Floats, importance: Floats, first: Int, count: Int, squares: Floats, s: Floats) -> None:
        k = importance.size
        if first == 0:
            sums_of_squares(x, 0, squares.size, k, squares)
        even = np.empty(LANES, np.float32)
        for j in range(LANES):
            even[j] = squares[(first + min(j, count - 1)) * n // k] / F32(k)
        load(x, first, count, s)
        load_weights(importance, first, count, s)
        weigh(even, s)

    return weigh_rows
