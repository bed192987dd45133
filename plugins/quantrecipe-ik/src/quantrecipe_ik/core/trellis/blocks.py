"""What the trellis types share beside the search: what weights count, and sums over blocks.

A block of 32 weights has a scale; its groups of eight, or four, have a point each. ik_llama.cpp: QuantizerIQKT.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.scalars import F32, ONE, TWO, ZERO, Float, Floats, Int, Ints

from quantrecipe_ik.core.trellis.generator import coordinate
from quantrecipe_ik.core.weighing import SUPERBLOCK

__all__ = [
    "BLOCK",
    "BLOCKS",
    "add_sums",
    "largest_in",
    "squared_error",
    "weigh",
]

BLOCK = 32
BLOCKS = SUPERBLOCK // BLOCK
NOTHING, EVEN = F32(1e-14), F32(1e-4)
"""Below the first, weights or importance are as good as none, and all weights count the second. kEps2, kWeight."""


@kernel
def largest_in(x: Floats, first: Int, count: Int) -> Float:
    """The largest size of count weights."""
    first, size = place(first), ZERO
    for i in range(count):
        size = max(size, abs(x[first + i]))
    return size


@kernel
def _mean_square(x: Floats, first: Int) -> Float:
    """Twice that of a super-block, or -1 where all its weights are next to nothing."""
    first, total = place(first), ZERO
    for i in range(SUPERBLOCK):
        total += x[first + i] * x[first + i]
    return -ONE if total < NOTHING * F32(SUPERBLOCK) else TWO * total / F32(SUPERBLOCK)


@kernel
def weigh(x: Floats, importance: Floats, weights: Floats) -> None:
    """What each weight of flat x counts: importance * sqrt(twice the super-block's mean square + its own square)."""
    length, k = trips(BLOCK, x), importance.size
    for first in range(0, x.size, SUPERBLOCK):
        even = _mean_square(x, first)
        for block in range(BLOCKS):
            at = place(first + block * BLOCK)
            column = place(at % k)
            if even < ZERO:
                for i in range(length):
                    weights[at + i] = EVEN
                continue
            for i in range(length):
                v = x[at + i]
                weights[at + i] = importance[column + i] * np.sqrt(even + v * v)
            wx, ww, xx = ZERO, ZERO, ZERO
            for i in range(BLOCK):
                v, w = x[at + i], weights[at + i]
                wx += w * abs(v)
                ww += w * w
                xx += v * v
            if not (xx >= NOTHING and ww >= NOTHING and wx >= NOTHING):
                for i in range(length):
                    weights[at + i] = EVEN


@cache
def squared_error(size: int, *, positive: bool = False) -> Callable[..., Any]:
    """The kernel error(x, weights, block, scale, found, offset): of one block with these indices."""
    groups = BLOCK // size

    @kernel
    def error(x: Floats, weights: Floats, block: Int, scale: Float, found: Ints, offset: Int) -> Float:
        total = ZERO
        for g in range(block * groups, (block + 1) * groups):
            for k in range(size):
                q = coordinate(found[g], k, offset)
                off = x[g * size + k] - scale * (abs(q) if positive else q)
                total += weights[g * size + k] * off * off
        return total

    return error


@cache
def add_sums(size: int, *, positive: bool = False) -> Callable[..., None]:
    """The kernel add(x, weights, block, level, found, offset, sums): ∑ w x q to sums[0], ∑ w q² to sums[1].

    q is level times the coordinates of a block's points.
    """
    groups = BLOCK // size

    @kernel
    def add(
        x: Floats, weights: Floats, block: Int, level: Int, found: Ints, offset: Int, sums: Floats
    ) -> None:
        sxl, sl2 = sums[0], sums[1]
        for g in range(block * groups, (block + 1) * groups):
            for k in range(size):
                q = coordinate(found[g], k, offset)
                q = level * (abs(q) if positive else q)
                w = weights[g * size + k]
                sxl += w * x[g * size + k] * q
                sl2 += w * q * q
        sums[0], sums[1] = sxl, sl2

    return add
