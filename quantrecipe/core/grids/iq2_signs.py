"""Groups of weights made ready for a grid of eights: sizes, signs, and what each counts.

    s      rows of LANES float32, one group of n weights per lane (see `lanes.py` for X and WT; ROOT: √WT)
    signs  int32, one row of LANES for each eight: bit i is set where weight i is negative

Formats with room for seven bits only have an even number of negative weights in each eight: where it is odd, the weight
that loses least by it changes its sign, and its X becomes negative.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.grids.points_of_eight import EIGHT, ROOT
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.lanes import (
    LANES,
    WT,
    X,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, I32, ZERO, Floats, Int, Ints

__all__ = ["load_signed"]

NOT, IS = I32(0), I32(1)
QUARTER = F32(0.25)


@cache
def load_signed(n: int, *, even: bool, sigma: float) -> Callable[..., None]:
    """The kernel load(x, importance, start, count, s, signs, largest), for all groups of count super-blocks.

    A weight counts importance * sqrt(sigma * mean square of its super-block + its own square); without importance
    (of size 0) a quarter of that mean plus its own square. largest: LANES float32, the largest X of each group.
    """
    load, load_weights, weigh = load_groups(n), load_importance(n), weigh_by_size(n)
    take_signs = _take_signs(n, even=even)
    groups, factor = SUPERBLOCK // n, F32(sigma)

    @kernel
    def load_all(
        x: Floats, importance: Floats, start: Int, count: Int, s: Floats, signs: Ints, largest: Floats
    ) -> None:
        squares, mean = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        load(x, start * groups, count * groups, s)
        sums_of_squares(x, start, count, SUPERBLOCK, squares)
        for j in range(LANES):
            mean[j] = factor * squares[min(j // groups, count - 1)] / F32(SUPERBLOCK)
        if importance.size:
            load_weights(importance, start * groups, count * groups, s)
            weigh(mean, s)
        else:
            for i in range(n):
                for j in range(LANES):
                    s[WT + i * LANES + j] = QUARTER * mean[j] + s[X + i * LANES + j] * s[X + i * LANES + j]
        for i in range(n * LANES):
            s[ROOT + i] = np.sqrt(s[WT + i])
        take_signs(s, signs, largest)

    return load_all


@cache
def _take_signs(n: int, *, even: bool) -> Callable[..., None]:
    @disjoint_kernel
    def take_signs(s: Floats, signs: Ints, largest: Floats) -> None:
        for k in range(n // EIGHT):
            for j in range(LANES):
                bits, odd, last = I32(0), I32(0), I32(0)
                least = ZERO
                for i in range(EIGHT):
                    x, w = s[X + (EIGHT * k + i) * LANES + j], s[WT + (EIGHT * k + i) * LANES + j]
                    negative = IS if x < ZERO else NOT
                    bits = I32(bits | I32(negative << I32(i)))
                    odd = I32(odd ^ negative)
                    loss = w * x * x
                    smaller = loss < least if i > 0 else True
                    last = I32(i) if smaller else last
                    least = loss if smaller else least
                flipped = I32(odd << last) if even else NOT
                signs[k * LANES + j] = I32(bits ^ flipped)
                for i in range(EIGHT):
                    size = abs(s[X + (EIGHT * k + i) * LANES + j])
                    other = I32(I32(flipped >> I32(i)) & IS) != NOT
                    s[X + (EIGHT * k + i) * LANES + j] = -size if other else size
        for j in range(LANES):
            largest[j] = s[X + j]
        for i in range(1, n):
            for j in range(LANES):
                x = s[X + i * LANES + j]
                largest[j] = x if x > largest[j] else largest[j]

    return take_signs
