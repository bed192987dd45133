"""The point of a codebook that is nearest to each group of weights, by a look into the cells around it.

Each group visits its own cell and those that it comes to by crossing the nearest bounds: in the few coordinates where
that costs least, in all combinations. The visits are sorted by cell, and each cell serves LANES groups at a time: a
point's coordinates are the same for all of them.

A weight that counts w and wants the value y adds w (q - y)² = w q² - 2 w y q + what doesn't depend on q.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, select
from quantrecipe.core.scalars import F32, I32, ZERO, Bytes, Floats, Int, Ints

__all__ = ["nearest_points"]

MINUS_TWO, INFINITE = F32(-2), F32(np.inf)


@cache
def nearest_points(size: int, bins: int, reach: tuple[int, ...]) -> Callable[..., None]:
    """The kernel nearest(points, indices, starts, bounds, wanted, counts, found) for groups of `size` weights.

    points … bounds: see `generator.Books`, of one book; wanted, counts: float32 (groups * size,), what the weights want
    to be, and what each counts; found: int32 (groups,), the index of the best point.
    reach: into how many bins to look, their own included, in the coordinates that are cheapest to cross in, the
    cheapest first; in all combinations.
    """
    visits, scan, widest = prod(reach), _scan(size), max(reach)

    @kernel
    def plan(
        bounds: Floats,
        wanted: Floats,
        counts: Floats,
        group: Int,
        cost: Floats,
        step: Ints,
        cells: Bytes,
        first: Int,
    ) -> None:
        """cells[first : first + visits] of one group.

        cost, step: of each coordinate what it costs to cross to the next bin (float32), and `widest` numbers, how far
        the nearest bins are in the order of cells.
        """
        own, unit = 0, 1
        for k in range(size):
            y, at = wanted[group * size + k], k * (bins - 1)
            bin_ = 0
            for b in range(bins - 1):
                bin_ += 1 if y > bounds[at + b] else 0
            low, high = bin_ - 1, bin_ + 1
            for n in range(1, widest):
                below = y - bounds[at + low] if low >= 0 else INFINITE
                above = bounds[at + high - 1] - y if high < bins else INFINITE
                if n == 1:
                    cost[k] = counts[group * size + k] * min(below, above) * min(below, above)
                if above < below:
                    step[k * widest + n] = (high - bin_) * unit
                    high += 1
                else:
                    step[k * widest + n] = (low - bin_) * unit
                    low -= 1
            own += bin_ * unit
            unit *= bins
        cells[first] = own
        known = 1
        for wide in reach:
            cheapest = 0
            for k in range(1, size):
                cheapest = k if cost[k] < cost[cheapest] else cheapest
            cost[cheapest] = INFINITE
            for n in range(1, wide):
                for v in range(known):
                    cells[first + n * known + v] = cells[first + v] + step[cheapest * widest + n]
            known *= wide

    @kernel
    def nearest(
        points: Floats,
        indices: Ints,
        starts: Ints,
        bounds: Floats,
        wanted: Floats,
        counts: Floats,
        found: Ints,
    ) -> None:
        groups, cell_count = found.size, starts.size - 1
        cells, sorted_ = np.empty(groups * visits, np.int32), np.empty(groups * visits, np.int32)
        ends, best = np.zeros(cell_count + 1, np.int64), np.full(groups, INFINITE, np.float32)
        cost, step = np.empty(size, np.float32), np.zeros(size * widest, np.int64)
        found[:] = I32(0)
        for group in range(groups):
            plan(bounds, wanted, counts, place(group), cost, step, cells, place(group * visits))
        for visit in range(cells.size):
            ends[cells[visit] + 1] += 1
        for cell in range(cell_count):
            ends[cell + 1] += ends[cell]
        for visit in range(cells.size):
            sorted_[ends[cells[visit]]] = I32(visit // visits)
            ends[cells[visit]] += 1
        squares, products = np.zeros(size * LANES, np.float32), np.zeros(size * LANES, np.float32)
        least, which = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
        begin = 0
        for cell in range(cell_count):
            end = ends[cell]
            for first in range(begin, end, LANES):
                count = min(LANES, end - first)
                for j in range(LANES):
                    at = place(sorted_[first + min(j, count - 1)] * size)
                    for k in range(size):
                        w = counts[at + k]
                        squares[k * LANES + j] = w
                        products[k * LANES + j] = MINUS_TWO * w * wanted[at + k]
                    least[j], which[j] = INFINITE, I32(starts[cell])
                scan(points, starts[cell], starts[cell + 1], squares, products, least, which)
                for j in range(count):
                    group = place(sorted_[first + j])
                    if least[j] < best[group]:
                        best[group], found[group] = least[j], indices[which[j]]
            begin = end

    return nearest


@cache
def _scan(size: int) -> Callable[..., None]:
    """The kernel scan(points, first, end, squares, products, least, which): LANES groups beside points first to end."""

    @disjoint_kernel
    def scan(
        points: Floats, first: Int, end: Int, squares: Floats, products: Floats, least: Floats, which: Ints
    ) -> None:
        for p in range(first, end):
            at = place(p * size)
            for j in range(LANES):
                loss = ZERO
                for k in range(size):
                    q = points[at + k]
                    loss += q * (squares[k * LANES + j] * q + products[k * LANES + j])
                better = loss < least[j]
                least[j] = select(better, loss, least[j])
                which[j] = select(better, I32(p), which[j])

    return scan
