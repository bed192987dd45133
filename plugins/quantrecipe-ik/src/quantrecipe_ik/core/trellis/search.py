"""The point of a codebook that is nearest to each group of weights, by a look into the cells around it.

Each group visits its own cell and those that it comes to by crossing the nearest bounds: in the few coordinates where
that costs least, in all combinations. The visits are sorted by cell, and each cell serves LANES groups at a time: a
point's coordinates are the same for all of them. Of fours, each visits its own cell first. Then it leaves out those
that cost more to come to than it loses already: most of them.

A weight that counts w and wants the value y adds w (q - y)² = w q² - 2 w y q + what doesn't depend on q.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import LANES, select
from quantrecipe.core.scalars import F32, I32, ZERO, Float, Floats, Int, Ints, Tables

__all__ = ["nearest_points"]

MINUS_TWO, INFINITE = F32(-2), F32(np.inf)
EIGHT = 8
LARGEST, MARGIN = F32(126), F32(2.0**-18)
"""No coordinate of a point is larger; what float32 loses is less than a quarter of MARGIN times w (|y| + LARGEST)²."""


@cache
def nearest_points(size: int, bins: int, reach: tuple[int, ...]) -> Callable[..., None]:
    """The kernel nearest(points, indices, starts, bounds, wanted, counts, found) for groups of `size` weights.

    points … bounds: see `generator.Books`, of one book; wanted, counts: float32 (groups * size,), what the weights want
    to be, and what each counts; found: int32 (groups,), the index of the best point.
    reach: into how many bins to look, their own included, in the coordinates that are cheapest to cross in, the
    cheapest first; in all combinations.
    """
    visits, widest = prod(reach), max(reach)
    # Of points of eight weights the nearest one is hardly nearer than the bounds: nothing would be ruled out.
    sift = size < EIGHT
    limit, visit = _limit(size), _visit(size, sift=sift)

    @kernel
    def plan(
        bounds: Floats, wanted: Floats, counts: Floats, group: Int,
        cost: Floats, step: Ints, cells: Ints, costs: Floats, first: Int,
    ) -> None:  # fmt: skip
        """cells[first : first + visits] of one group, its own first; costs: the least that a point there loses.

        cost, step: for each coordinate `widest` numbers: what it costs to cross to the nearest bins, and how far they
        are in the order of cells.
        """
        own, unit = 0, 1
        for k in range(size):
            y, w, at = wanted[group * size + k], counts[group * size + k], k * (bins - 1)
            bin_ = 0
            for b in range(bins - 1):
                bin_ += 1 if y > bounds[at + b] else 0
            low, high = bin_ - 1, bin_ + 1
            for n in range(1, widest):
                below = y - bounds[at + low] if low >= 0 else INFINITE
                above = bounds[at + high - 1] - y if high < bins else INFINITE
                cost[k * widest + n] = w * min(below, above) * min(below, above)
                # There is one on at least one side, also where a weight wants what isn't a number.
                if low < 0 or (high < bins and above < below):
                    step[k * widest + n] = (high - bin_) * unit
                    high += 1
                else:
                    step[k * widest + n] = (low - bin_) * unit
                    low -= 1
            own += bin_ * unit
            unit *= bins
            cost[k * widest] = cost[k * widest + 1]
        cells[first], costs[first] = own, ZERO
        known, crossed = 1, 0
        for wide in reach:
            # No coordinate twice, also where what it costs is infinite, or not a number.
            cheapest = -1
            for k in range(size):
                if crossed >> k & 1 == 0 and (cheapest < 0 or cost[k * widest] < cost[cheapest * widest]):
                    cheapest = k
            crossed |= 1 << cheapest
            for n in range(1, wide):
                for v in range(known):
                    cells[first + n * known + v] = cells[first + v] + step[cheapest * widest + n]
                    if sift:
                        costs[first + n * known + v] = costs[first + v] + cost[cheapest * widest + n]
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
        groups = found.size
        cells, costs = np.empty(groups * visits, np.int32), np.empty(groups * visits, np.float32)
        few, owners = np.empty(groups * visits, np.int32), np.empty(groups * visits, np.int32)
        best, where = np.full(groups, INFINITE, np.float32), np.zeros(groups, np.int32)
        cost, step = np.empty(size * widest, np.float32), np.zeros(size * widest, np.int64)
        room = (
            np.empty(groups * visits, np.int32), np.empty(starts.size, np.int64),
            np.zeros(size * LANES, np.float32), np.zeros(size * LANES, np.float32),
            np.empty(LANES, np.float32), np.empty(LANES, np.int32),
        )  # fmt: skip
        found[:] = I32(0)
        for group in range(groups):
            plan(bounds, wanted, counts, place(group), cost, step, cells, costs, place(group * visits))
            where[group] = cells[group * visits]
        if not sift:
            count = groups * visits
            visit(
                points,
                indices,
                starts,
                wanted,
                counts,
                cells,
                owners,
                count,
                visits,
                room,
                best,
                where,
                found,
            )
            return
        # First each group's own cell; what is found there rules most of the others out.
        for group in range(groups):
            owners[group], few[group] = group, cells[group * visits]
        count = groups
        for stage in range(2):
            visit(
                points, indices, starts, wanted, counts, few, owners, count, visits, room, best, where, found
            )
            if stage == 0:
                count = 0
                for group in range(groups):
                    most = limit(wanted, counts, place(group), best[group])
                    for v in range(group * visits + 1, (group + 1) * visits):
                        few[count], owners[count] = cells[v], group
                        count += not costs[v] > most

    return nearest


@cache
def _limit(size: int) -> Callable[..., Any]:
    """The kernel limit(wanted, counts, group, least)."""

    @kernel
    def limit(wanted: Floats, counts: Floats, group: Int, least: Float) -> Float:
        """A cell that costs more has no point that is as near as one that loses `least`, whatever float32 loses."""
        total, most = ZERO, ZERO
        for k in range(group * size, (group + 1) * size):
            y, w = wanted[k], counts[k]
            total += w * y * y
            most += w * (abs(y) + LARGEST) * (abs(y) + LARGEST) if w >= ZERO else INFINITE
        return least + total + MARGIN * most

    return limit


@cache
def _visit(size: int, *, sift: bool) -> Callable[..., None]:
    """The kernel visit(points, indices, starts, …)."""
    scan = _scan(size)

    @kernel
    def visit(
        points: Floats, indices: Ints, starts: Ints, wanted: Floats, counts: Floats,
        cells: Ints, groups: Ints, count: Int, each: Int, room: Tables, best: Floats, where: Ints, found: Ints,
    ) -> None:  # fmt: skip
        """Look into cells[v] for groups[v], for count visits. where: the cell that the best is in.

        Where nothing is sifted, these are all visits, `each` of every group.
        """
        sorted_, ends, squares, products, least, which = room
        ends[:] = 0
        for v in range(count):
            ends[cells[v] + 1] += 1
        for cell in range(starts.size - 1):
            ends[cell + 1] += ends[cell]
        for v in range(count):
            sorted_[ends[cells[v]]] = groups[v] if sift else I32(v // each)
            ends[cells[v]] += 1
        begin = 0
        for cell in range(starts.size - 1):
            end = ends[cell]
            for first in range(begin, end, LANES):
                filled = min(LANES, end - first)
                for j in range(LANES):
                    at = place(sorted_[first + min(j, filled - 1)] * size)
                    for k in range(size):
                        w = counts[at + k]
                        squares[k * LANES + j] = w
                        products[k * LANES + j] = MINUS_TWO * w * wanted[at + k]
                    least[j], which[j] = INFINITE, I32(starts[cell])
                scan(points, starts[cell], starts[cell + 1], squares, products, least, which)
                for j in range(filled):
                    group = place(sorted_[first + j])
                    # Of equals, the first one in the order of cells.
                    tied = sift and least[j] == best[group] and best[group] < INFINITE
                    if least[j] < best[group] or (tied and cell < where[group]):
                        best[group], where[group], found[group] = least[j], cell, indices[which[j]]
            begin = end

    return visit


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
