"""Items and options as arrays of integers, without options that can never be worth it.

Costs become integers in steps of a power of two, fine enough that 2^50 of them make the largest total; sums of integers
are the same on every machine, in every order. Uses are counted in their greatest common divisor.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.allocate.knapsack.problem import Item, Limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Table", "make_table"]

_COST_BITS = 50  # exact as float64, with room to add


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """All options, one after the other, each item's by growing cost.

    start:  (items + 1): item i has the options start[i] … start[i + 1] - 1
    item:   (options): which item an option belongs to
    number: (options): its number among the item's options as they were given
    cost:   (options): int64 above the item's cheapest
    uses:   (options, limits): int64 above the least that any of the item's options uses
    most:   (limits): int64, what the limits leave above all items' least; floored to whole units
    unit:   cost of a step
    divisors: (limits): int64, what a unit of each use stands for
    """

    start: NDArray[np.int64]
    item: NDArray[np.int64]
    number: NDArray[np.int64]
    cost: NDArray[np.int64]
    uses: NDArray[np.int64]
    most: NDArray[np.int64]
    unit: float
    divisors: NDArray[np.int64]

    @property
    def items(self) -> int:
        """Number of items that the table has."""
        return len(self.start) - 1

    def keep(self, chosen: NDArray[np.bool_]) -> Table:
        """The table with these options alone; each item must keep one."""
        counts = np.bincount(self.item[chosen], minlength=self.items)
        return Table(
            start=np.concatenate(([0], np.cumsum(counts))),
            item=self.item[chosen],
            number=self.number[chosen],
            cost=self.cost[chosen],
            uses=self.uses[chosen],
            most=self.most,
            unit=self.unit,
            divisors=self.divisors,
        )


def make_table(items: Sequence[Item], limits: Sequence[Limit]) -> Table:
    """The table of these items; options that another one of the item beats in everything are left out."""
    counts = np.array([len(item.options) for item in items], np.int64)
    start = np.concatenate(([0], np.cumsum(counts)))
    item = np.repeat(np.arange(len(items)), counts)
    cost = np.array([option.cost for it in items for option in it.options], np.float64)
    uses = np.array([option.uses for it in items for option in it.options], np.int64)
    uses = uses.reshape(len(cost), len(limits))
    if not np.isfinite(cost).all():
        raise ValueError("costs must be finite numbers")
    cost -= np.minimum.reduceat(cost, start[:-1])[item]
    unit = _unit(math.fsum(np.maximum.reduceat(cost, start[:-1]).tolist()))
    least = np.minimum.reduceat(uses, start[:-1])
    most = np.array([limit.most for limit in limits], np.int64) - least.sum(axis=0)
    uses = uses - least[item]
    divisors = np.array([max(1, int(np.gcd.reduce(uses[:, b]))) for b in range(len(limits))], np.int64)
    table = Table(
        start=start,
        item=item,
        number=np.arange(len(cost)) - start[item],
        cost=np.rint(cost / unit).astype(np.int64),
        uses=uses // divisors,
        most=most // divisors,
        unit=unit,
        divisors=divisors,
    )
    return _without_beaten(_sorted(table))


def _unit(total: float) -> float:
    """A power of two: 2^50 of it are at least the total, unless that is next to nothing."""
    exponent = max(math.frexp(total)[1] - _COST_BITS, sys.float_info.min_exp)
    return math.ldexp(1.0, exponent) if total > 0.0 else 1.0


def _sorted(table: Table) -> Table:
    """The table in the order of items, then costs; options of equal cost by their uses, then as they were given."""
    keys = [table.number, *reversed(table.uses.T), table.cost, table.item]
    order = np.lexsort(keys)
    return Table(
        start=table.start,
        item=table.item[order],
        number=table.number[order],
        cost=table.cost[order],
        uses=table.uses[order],
        most=table.most,
        unit=table.unit,
        divisors=table.divisors,
    )


def _without_beaten(table: Table) -> Table:
    """Without options that use no less of anything than a cheaper one of the same item."""
    beaten = np.zeros(len(table.cost), np.bool_)
    longest = int(np.diff(table.start).max(initial=0))
    for distance in range(1, longest):  # each option against the one `distance` places before it
        same = table.item[distance:] == table.item[:-distance]
        worse = (table.uses[distance:] >= table.uses[:-distance]).all(axis=1)
        beaten[distance:] |= same & worse
    return table.keep(~beaten)
