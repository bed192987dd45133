"""Groups of weights put in order, with sums up to each: what it takes to try every way to cut a group in three.

IQ1 formats have three values, so the best rounding of a group makes its lowest weights the lowest value and its highest
weights the highest. ggml (quantize_row_iq1_s_impl, …_m_impl) sorts the weights, adds up from the lowest on what they
count, and then tries every pair of cuts. Equal weights keep their order, as in the C library's merge sort.

    s       rows of LANES float32, one group of n weights per lane (see `lanes.py` for X and WT)
    ranks   n rows of LANES int32: the place of each weight in the order
    sx, sw  n + 1 rows of LANES float32: sums of WT * X and of WT over the lowest 0, 1, … n weights
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from quantrecipe.core.bits import place
from quantrecipe.core.grids.points_of_eight import EIGHT
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, WT, X
from quantrecipe.core.scalars import I32, ZERO, Floats, Int, Ints

__all__ = ["rank_groups", "split_codes", "sum_in_order"]

NOT, IS = I32(0), I32(1)


@cache
def rank_groups(n: int) -> Callable[..., None]:
    """The kernel rank(s, ranks)."""

    @disjoint_kernel
    def rank(s: Floats, ranks: Ints) -> None:
        for i in range(n * LANES):
            ranks[i] = I32(0)
        for b in range(1, n):
            for a in range(b):
                for j in range(LANES):
                    before = IS if s[X + a * LANES + j] <= s[X + b * LANES + j] else NOT
                    ranks[b * LANES + j] += before
                    ranks[a * LANES + j] += I32(IS - before)

    return rank


@cache
def sum_in_order(n: int) -> Callable[..., None]:
    """The kernel sum(s, ranks, first, end, sx, sw); weights before `first` and from `end` on count nothing."""

    @disjoint_kernel
    def sum_up(s: Floats, ranks: Ints, first: Int, end: Int, sx: Floats, sw: Floats) -> None:
        for i in range((n + 1) * LANES):
            sx[i] = ZERO
            sw[i] = ZERO
        for i in range(first, end):
            for j in range(LANES):
                at = place(i * LANES + j)
                to = place((ranks[at] + 1) * LANES + j)
                sx[to] = s[WT + at] * s[X + at]
                sw[to] = s[WT + at]
        for i in range(1, n + 1):
            for j in range(LANES):
                sx[i * LANES + j] += sx[(i - 1) * LANES + j]
                sw[i * LANES + j] += sw[(i - 1) * LANES + j]

    return sum_up


@cache
def split_codes(n: int) -> Callable[..., None]:
    """The kernel split(ranks, low, high, mirror, codes): the code of every eight weights, n / 8 rows of lanes.

    A weight is 0 below the cut `low` of its lane, 2 from the cut `high` on, else 1; mirrored, 2, 0 and 1.
    """

    @disjoint_kernel
    def split(ranks: Ints, low: Ints, high: Ints, mirror: Ints, codes: Ints) -> None:
        for k in range(n // EIGHT):
            for j in range(LANES):
                code = I32(0)
                for i in range(EIGHT):
                    rank = ranks[(EIGHT * k + i) * LANES + j]
                    q = I32((IS if rank >= low[j] else NOT) + (IS if rank >= high[j] else NOT))
                    q = I32(I32(2) - q) if mirror[j] != NOT else q
                    code = I32(code | I32(q << I32(2 * i)))
                codes[k * LANES + j] = code

    return split
