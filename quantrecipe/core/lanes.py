"""Lanes: many groups of weights side by side, each computed in the reference's own order.

A sum of float32 may not be reordered, so one group can't be spread over a vector register. But groups don't
depend on each other: `LANES` of them stand side by side, and every lane does what the reference does to one.

    workspace  one flat float32 array of rows of LANES numbers, at constant offsets (a constant distance
               tells LLVM that rows don't overlap; separate arrays were measured to cost a third)
      row 0 … 23    one number per lane: sums, bounds, results
      X  (32 rows)  weights: row i holds the i-th weight of each lane's group
      WT (32 rows)  how much each weight counts
      Q  (32 rows)  the integers of the present try

Loops over lanes stand innermost with a constant trip count; loops over rows are unrolled by four, so that sums stay
in registers; branches are selects. 32 lanes, two AVX-512 registers, measured half as fast again as 16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import as_bits
from quantrecipe.core.jit import kernel

__all__ = [
    "LANES",
    "WORKSPACE",
    "WT",
    "X",
    "Q",
    "lane_row",
    "load_groups",
    "nearest",
    "nearest_int",
    "sums_of_squares",
    "weigh_by_importance",
]

F32 = np.float32
I32 = np.int32
U32 = np.uint32

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
ZERO = F32(0.0)


@kernel
def nearest(value: Any) -> Any:
    """The integer nearest to a float32 below 2^22 in size, ties to even, as a float32."""
    return (value + ROUND) - ROUND


@kernel
def nearest_int(value: Any) -> Any:
    """The same as an int32; beyond 2^22 the bits that ggml's nearest_int gives: 0 for NaN, -2^22 for infinities."""
    return I32(I32(U32(as_bits(value + ROUND) & U32(0x007FFFFF))) - I32(0x00400000))


@cache
def load_groups(n: int) -> Callable[..., None]:
    """The kernel load(x, first, count, s): X of lane j = group first + j of n weights of flat x, for count groups.

    Lanes from count on repeat the last group, so that what they compute is as harmless as it is unused.
    """

    @kernel
    def load(x: Any, first: Any, count: Any, s: Any) -> None:
        for j in range(LANES):
            at = (first + min(j, count - 1)) * n
            for i in range(n):
                s[X + i * LANES + j] = x[at + i]

    return load


@cache
def weigh_by_importance(n: int) -> Callable[..., None]:
    """The kernel weigh(importance, first, count, sigma, s): WT = importance * sqrt(sigma[j] + X²) for loaded groups.

    A group's importance is that of its columns. sigma is LANES floats: the mean square that evens out the weights.
    """

    @kernel
    def weigh(importance: Any, first: Any, count: Any, sigma: Any, s: Any) -> None:
        k = importance.size
        for j in range(LANES):
            at = ((first + min(j, count - 1)) * n) % k
            for i in range(n):
                s[WT + i * LANES + j] = importance[at + i]
        for i in range(n):
            for j in range(LANES):
                x = s[X + i * LANES + j]
                s[WT + i * LANES + j] *= np.sqrt(sigma[j] + x * x)

    return weigh


@kernel
def sums_of_squares(x: Any, first: Any, count: Any, n: Any, sums: Any) -> None:
    """sums[j] = the sum, in order, of the squares of the n weights of x at (first + j) * n, for count ≤ LANES."""
    for j in range(LANES):
        sums[j] = ZERO
    for i in range(0, n, UNROLL):
        for j in range(LANES):
            at = (first + min(j, count - 1)) * n + i
            total = sums[j]
            for u in range(UNROLL):
                v = x[at + u]
                total += v * v
            sums[j] = total
