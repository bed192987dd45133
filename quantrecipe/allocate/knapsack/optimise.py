"""optimise: the best choice under several limits at once, exact to the byte.

A multiple-choice knapsack problem, in steps: options that can never be worth it go (`table`); prices of the limits
give a lower bound (`bound`); a narrow search among the options that these prices leave undecided finds a good choice;
a wide one among all that could still be better proves the best (`search`). What that can't finish, HiGHS does (`milp`).
The answer is the optimum, the same on every machine; where a problem is too hard, the gap says how much better another
choice could be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.allocate.knapsack.bound import Bound, best_bound
from quantrecipe.allocate.knapsack.milp import solve
from quantrecipe.allocate.knapsack.option_table import Table, make_table
from quantrecipe.allocate.knapsack.problem import Item, Limit, Solution
from quantrecipe.allocate.knapsack.search import Found, search

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["optimise"]

_NEAREST = 300  # options that the narrow search looks at
_MANY = 1_200  # options that may still be better: with more, the narrow search looks at so many once more
_NARROW = 1_000  # states that it follows at a time
_WIDE = 200_000  # with one limit; with more, few states use the same, and HiGHS is soon better
_WIDE_OF_SEVERAL = 5_000
_MOST_OF_SEVERAL = 1_000  # options that are looked at then, beside every item's base


def optimise(items: Sequence[Item], limits: Sequence[Limit]) -> Solution | None:
    """One option for each item, all limits kept, at the least cost; None where no choice keeps them.

    Of choices that cost the same (to 2^-50 of the largest possible cost), the one that uses less. `limits` may be
    empty: each item then has its cheapest option.
    """
    if not items or not limits:
        choices = tuple(_cheapest(item) for item in items)
        cost = math.fsum(item.options[c].cost for item, c in zip(items, choices, strict=True))
        return Solution(choices=choices, cost=cost, bound=cost, uses=(), prices=())
    table = make_table(items, limits)
    if (table.most < 0).any() or (bound := best_bound(table)) is None:
        return None
    found = _best(table, bound)
    if found.choice is None:
        return None
    choices = tuple(int(number) for number in table.number[found.choice])
    chosen = [item.options[choice] for item, choice in zip(items, choices, strict=True)]
    cost = math.fsum(option.cost for option in chosen)
    return Solution(
        choices=choices,
        cost=cost,
        bound=cost - max(0.0, found.cost - found.bound) * table.unit,
        uses=tuple(sum(option.uses[b] for option in chosen) for b in range(len(limits))),
        prices=tuple(float(p) * table.unit / d for p, d in zip(bound.prices, table.divisors, strict=True)),
    )


def _best(table: Table, bound: Bound) -> Found:
    nearest = np.argsort(bound.reduced, kind="stable")[: table.items + _NEAREST]
    known = search(table, bound, nearest, worth=math.inf, room=_NARROW)
    if known.choice is None:
        known = solve(table, bound, np.arange(len(table.cost)))
        if known.choice is None:
            return known
    left = _worth_looking(bound, known)
    if (
        len(left) > table.items + _MANY
    ):  # what is known is far from the best: to look further saves a long search
        further = np.argsort(bound.reduced, kind="stable")[: table.items + _MANY]
        known = min(
            known, search(table, bound, further, worth=math.inf, room=_NARROW), key=lambda it: it.cost
        )
        left = _worth_looking(bound, known)
    worth = _worth(bound, known)
    by_promise = left[np.argsort(bound.reduced[left], kind="stable")]
    several = len(table.most) > 1
    some, rest = np.split(by_promise, [table.items + _MOST_OF_SEVERAL if several else len(left)])
    without = bound.value + float(bound.reduced[rest].min(initial=math.inf))  # what the rest may lead to
    found = search(table, bound, some, worth=worth, room=_WIDE_OF_SEVERAL if several else _WIDE)
    found = replace(found, bound=min(found.bound, without))
    if found.complete:
        return found
    solved = solve(table, bound, some)
    return _better(known, found, replace(solved, bound=min(solved.bound, without)))


def _worth(bound: Bound, known: Found) -> float:
    """What Σ r may come to in a choice that is no worse than a known one, and what rounding may have added to it."""
    return known.cost - bound.value + 2.0**-46 * (abs(bound.value) + known.cost + 1.0)


def _worth_looking(bound: Bound, known: Found) -> NDArray[np.int64]:
    """The options that may stand in a choice that is no worse."""
    return np.flatnonzero(bound.reduced <= _worth(bound, known))


def _better(*found: Found) -> Found:
    """The best choice of several searches, with the best bound."""
    best = min(found, key=lambda it: it.cost)
    return replace(best, bound=min(best.cost, max(it.bound for it in found)))


def _cheapest(item: Item) -> int:
    return min(range(len(item.options)), key=lambda n: (item.options[n].cost, item.options[n].uses, n))
