"""Search: every combination of options that the bound still allows, item by item, in integers.

A state is what the items so far use and cost beyond their base. One that can't be completed to something as good as
what is already known is dropped, and of those that use the same the dearer. If that drops all but the best choices,
what is left is the optimum, and the same on every machine, since sums are of integers. Where the states become too
many, the least promising go, and the bound says what they might have led to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from quantrecipe.allocate.knapsack.bound import Bound
    from quantrecipe.allocate.knapsack.option_table import Table

__all__ = ["Found", "search"]

_MAX_KEPT = 30_000_000  # states over all items, which are kept to walk back


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The best choice that a search found, and what it proved.

    choice: position in the table for each item, all limits kept; None where there was nothing
    cost:   of the choice, in the table's units
    bound:  no choice among the options that were searched costs less
    """

    choice: NDArray[np.int64] | None
    cost: float
    bound: float

    @property
    def complete(self) -> bool:
        """True where the choice is the best one."""
        return self.bound >= self.cost


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidates:
    """The options that one item still has: position in the table, and what they change against its base."""

    item: int
    position: NDArray[np.int64]
    uses: NDArray[np.int64]
    cost: NDArray[np.int64]
    reduced: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class _States:
    """One row for each combination: uses and cost beyond the base, Σ r, and where it came from."""

    uses: NDArray[np.int64]
    cost: NDArray[np.int64]
    reduced: NDArray[np.float64]
    parent: NDArray[np.int64]
    position: NDArray[np.int64]

    def only(self, rows: NDArray[np.int64]) -> _States:
        return _States(
            uses=self.uses[rows],
            cost=self.cost[rows],
            reduced=self.reduced[rows],
            parent=self.parent[rows],
            position=self.position[rows],
        )


def search(table: Table, bound: Bound, options: NDArray[np.int64], *, worth: float, room: int) -> Found:
    """The best choice among these options and every item's base, if it costs no more than bound.value + worth.

    room: how many states are followed at a time
    """
    candidates = _candidates(table, bound, options)
    slack = table.most - table.uses[bound.base].sum(axis=0, dtype=np.int64)
    least, most = _reach(candidates, len(slack))
    zero = np.zeros(1, np.int64)
    states = _States(
        uses=np.zeros((1, len(slack)), np.int64), cost=zero, reduced=np.zeros(1), parent=zero, position=zero
    )
    steps: list[_States] = []
    kept, dropped = 0, math.inf
    for place, candidate in enumerate(candidates):
        states = _expand(states, candidate)
        unused = np.maximum(slack - states.uses - most[place], 0)
        promise = states.reduced + (unused * bound.prices).sum(axis=1)
        alive = np.flatnonzero((promise <= worth) & (states.uses + least[place] <= slack).all(axis=1))
        alive = alive[_undominated(states.uses[alive], states.cost[alive])]
        fit = max(1, min(room, (_MAX_KEPT - kept) // (len(candidates) - place)))
        if len(alive) > fit:
            by_promise = alive[np.argsort(promise[alive], kind="stable")]
            dropped = min(dropped, float(promise[by_promise[fit]]))
            alive = np.sort(by_promise[:fit])
        states = states.only(alive)
        steps.append(states)
        kept += len(alive)
    if not len(states.cost) or (not candidates and (slack < 0).any()):
        return Found(choice=None, cost=math.inf, bound=bound.value + dropped)
    best = int(np.lexsort((*states.uses.T, states.cost))[0])
    cost = int(table.cost[bound.base].sum(dtype=np.int64)) + int(states.cost[best])
    return Found(
        choice=_walk_back(bound.base, candidates, steps, best),
        cost=cost,
        bound=min(cost, bound.value + dropped),
    )


def _candidates(table: Table, bound: Bound, options: NDArray[np.int64]) -> list[_Candidates]:
    """The items that have more than their base, those that use the most first: the last ones fill the gaps."""
    left = np.union1d(options, bound.base)
    left = left[np.bincount(table.item[left], minlength=table.items)[table.item[left]] > 1]
    ends = np.flatnonzero(np.diff(table.item[left], append=-1)) + 1
    candidates = []
    for position in np.split(left, ends[:-1]) if len(left) else ():
        item = int(table.item[position[0]])
        base = bound.base[item]
        candidates.append(
            _Candidates(
                item=item,
                position=position,
                uses=table.uses[position] - table.uses[base],
                cost=table.cost[position] - table.cost[base],
                reduced=bound.reduced[position],
            )
        )
    scale = np.maximum(table.most, 1)
    spread = [float((np.abs(c.uses).max(axis=0) / scale).max()) for c in candidates]
    return [candidates[i] for i in sorted(range(len(spread)), key=lambda i: (-spread[i], i))]


def _reach(candidates: Sequence[_Candidates], limits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the most that the items after each place can add to the uses."""
    least = np.array([c.uses.min(axis=0) for c in candidates], np.int64).reshape(-1, limits)
    most = np.array([c.uses.max(axis=0) for c in candidates], np.int64).reshape(-1, limits)
    return (
        least.sum(axis=0) - np.cumsum(least, axis=0),
        most.sum(axis=0) - np.cumsum(most, axis=0),
    )


def _expand(states: _States, candidate: _Candidates) -> _States:
    """Every state combined with every option of the next item."""
    n = len(states.cost)
    return _States(
        uses=(candidate.uses[:, np.newaxis] + states.uses).reshape(-1, states.uses.shape[1]),
        cost=(candidate.cost[:, np.newaxis] + states.cost).reshape(-1),
        reduced=(candidate.reduced[:, np.newaxis] + states.reduced).reshape(-1),
        parent=np.tile(np.arange(n), len(candidate.cost)),
        position=np.repeat(candidate.position, n),
    )


def _undominated(uses: NDArray[np.int64], cost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that no other one beats: with one limit none that uses no more, with several none that uses the same."""
    order = np.lexsort((cost, *uses.T))
    best = np.ones(len(order), np.bool_)
    if uses.shape[1] == 1:
        best[1:] = cost[order][1:] < np.minimum.accumulate(cost[order])[:-1]
    else:
        best[1:] = (np.diff(uses[order], axis=0) != 0).any(axis=1)
    return np.sort(order[best])


def _walk_back(
    base: NDArray[np.int64], candidates: Sequence[_Candidates], steps: Sequence[_States], last: int
) -> NDArray[np.int64]:
    choice = base.copy()
    for candidate, states in zip(reversed(candidates), reversed(steps), strict=True):
        choice[candidate.item] = states.position[last]
        last = int(states.parent[last])
    return choice
