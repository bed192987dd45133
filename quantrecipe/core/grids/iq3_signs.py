"""One group of weights made ready for a grid: what each counts, its size, and the signs of every eight.

    v      float32, `size` each of X (sizes), W (what a weight counts), ROOT (the square root of that)
    signs  uint8, one for each eight: bit i is set where weight i is negative

Formats with room for seven bits only have an even number of negative weights in each eight: where it is odd, the weight
that loses least by it changes its sign, and its X becomes negative.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.grids.points_of_eight import EIGHT
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.scalars import U8, ZERO, Bytes, Float, Floats, Int

__all__ = ["take_signs", "weigh"]


@cache
def weigh(size: int) -> Callable[..., None]:
    """The kernel weigh(x, at, importance, column, even, v): a weight counts importance * sqrt(even + its square)."""

    @disjoint_kernel
    def weigh_group(x: Floats, at: Int, importance: Floats, column: Int, even: Float, v: Floats) -> None:
        at, column = place(at), place(column)
        for i in range(size):
            w = importance[column + i] * np.sqrt(even + x[at + i] * x[at + i])
            v[i] = abs(x[at + i])
            v[size + i] = w
            v[2 * size + i] = np.sqrt(w)

    return weigh_group


@cache
def take_signs(size: int, *, even: bool) -> Callable[..., Any]:
    """The kernel take(x, at, v, signs) → the largest X: fill signs; X changes only where the number must be even."""

    @disjoint_kernel
    def take(x: Floats, at: Int, v: Floats, signs: Bytes) -> Float:
        at = place(at)
        for k in range(size // EIGHT):
            bits, count = 0, 0
            for i in range(EIGHT):
                negative = x[at + k * EIGHT + i] < ZERO
                bits |= negative << i
                count += negative
            if even and count % 2:
                least, chosen = ZERO, 0
                for i in range(EIGHT):
                    loss = v[size + k * EIGHT + i] * v[k * EIGHT + i] * v[k * EIGHT + i]
                    smaller = i == 0 or loss < least
                    chosen = i if smaller else chosen
                    least = loss if smaller else least
                v[k * EIGHT + chosen] = -v[k * EIGHT + chosen]
                bits ^= 1 << chosen
            signs[k] = U8(bits)
        largest = v[0]
        for i in range(1, size):
            largest = v[i] if v[i] > largest else largest
        return largest

    return take
