"""How much each weight counts in a search, as ik_llama.cpp has it.

With importance a weight counts importance * sqrt(factor * mean square of its super-block + its own square). Groups in
which importance or weights are next to nothing count evenly (QHelper::row_weights): else their fit would be 0 / 0.

Without importance a weight counts its square, or that plus a share of the mean square of its super-block, or its size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.lanes import (
    LANES,
    WT,
    X,
    load_groups,
    load_importance,
    select,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, Floats, Int

__all__ = ["SUPERBLOCK", "Plain", "weigh_plain", "weigh_with_importance"]

QUARTER = F32(0.25)
SUPERBLOCK = 256
EVEN = F32(1e-9)
"""What a weight counts in a group of next to no importance. ik_llama.cpp: kEps."""

Plain = Literal["square", "evened square", "size"]


@cache
def _spread(n: int, factor: float) -> Callable[..., None]:
    """The kernel spread(x, first, count, even): factor times the mean square of each group's super-block."""
    groups = SUPERBLOCK // n
    times, weights = F32(factor), F32(SUPERBLOCK)

    @kernel
    def spread(x: Floats, first: Int, count: Int, even: Floats) -> None:
        squares = np.empty(LANES, np.float32)
        sums_of_squares(x, first // groups, count // groups, SUPERBLOCK, squares)
        for j in range(LANES):
            even[j] = times * squares[min(j, count - 1) // groups] / weights

    return spread


@cache
def _keep(n: int) -> Callable[..., None]:
    @kernel
    def keep(s: Floats, first: Int, count: Int, weights: Floats) -> None:
        """weights[…] = WT of the count lanes whose groups begin at `first`."""
        for j in range(count):
            at = place((first + j) * n)
            for i in range(n):
                weights[at + i] = s[WT + i * LANES + j]

    return keep


@cache
def weigh_plain(n: int, kind: Plain, factor: float) -> Callable[..., None]:
    """The kernel weigh(x, first, count, s, weights): X and WT of count ≤ LANES groups of n weights of flat x.

    What each counts goes to flat `weights`, too.
    """
    load, spread, keep = load_groups(n), _spread(n, factor), _keep(n)
    evened, by_size = kind == "evened square", kind == "size"

    @kernel
    def weigh(x: Floats, first: Int, count: Int, s: Floats, weights: Floats) -> None:
        even, lanes = np.zeros(LANES, np.float32), trips(LANES, s)
        load(x, first, count, s)
        if evened:
            spread(x, first, count, even)
            for j in range(LANES):
                even[j] = QUARTER * even[j]
        for i in range(n):
            for j in range(lanes):
                v = s[X + i * LANES + j]
                s[WT + i * LANES + j] = abs(v) if by_size else even[j] + v * v
        keep(s, first, count, weights)

    return weigh


@cache
def weigh_with_importance(n: int, factor: float) -> Callable[..., None]:
    """The kernel weigh(x, importance, first, count, s, weights): the same, with importance."""
    load, load_weights, weigh_sizes, spread, keep = (
        load_groups(n), load_importance(n), weigh_by_size(n), _spread(n, factor), _keep(n),
    )  # fmt: skip
    least = F32(n) * (EVEN * EVEN)

    @kernel
    def weigh(x: Floats, importance: Floats, first: Int, count: Int, s: Floats, weights: Floats) -> None:
        even = np.empty(LANES, np.float32)
        ww, xx, wx = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        lanes = trips(LANES, s)
        load(x, first, count, s)
        load_weights(importance, first, count, s)
        for i in range(n):
            for j in range(lanes):
                v, w = s[X + i * LANES + j], s[WT + i * LANES + j]
                ww[j] += w * w
                xx[j] += v * v
                wx[j] += w * abs(v)
        for i in range(n):
            for j in range(lanes):
                counts = (ww[j] > least) & (xx[j] > least) & (wx[j] > least)
                s[WT + i * LANES + j] = select(counts, s[WT + i * LANES + j], EVEN)
        spread(x, first, count, even)
        weigh_sizes(even, s)
        keep(s, first, count, weights)

    return weigh
