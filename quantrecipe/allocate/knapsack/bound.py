"""The Lagrangian bound: what no choice within the limits can cost less than, and prices that show it.

For prices p ≥ 0 of the limits, let every item take the option with the least cost + p · uses. Then

    L(p) = Σ min (cost + p · uses) - p · most

is a lower bound, and an option whose cost + p · uses lies r above its item's least can only stand in choices that
cost at least L(p) + r. The best prices are those of the relaxed problem; cutting planes find them, since there
is one price for each limit only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.allocate.knapsack.option_table import Table

__all__ = ["Bound", "best_bound"]

_ROUNDS = 100  # cutting planes, at most: it ends where another one gains nothing more
_CLOSE = 1e-12  # where another cutting plane gains nothing more
_CEILING = 1e12  # of the price of a whole limit, in the cost of everything


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cut:
    """A line that the bound stays under: its height where all prices are 0, and its slopes."""

    at_zero: float
    slope: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """Prices of the limits, and the bound that follows from them, in the table's units.

    prices:  (limits): of one unit
    value:   the bound, less what rounding may have added
    reduced: (options): r of each
    base:    (items): position in the table of the option with r = 0; the first of several
    """

    prices: NDArray[np.float64]
    value: float
    reduced: NDArray[np.float64]
    base: NDArray[np.int64]


def best_bound(table: Table) -> Bound | None:
    """The best bound that prices give; None where the relaxed problem already has no solution."""
    # Everything in numbers near 1: the prices of whole limits, in the sum of what the items cost at most.
    whole = np.maximum(table.most, 1).astype(np.float64)
    top = float(max(1, np.maximum.reduceat(table.cost, table.start[:-1]).sum(dtype=np.int64)))
    ceiling = 1.0
    prices = np.zeros(len(whole))
    cuts: list[_Cut] = []
    best, best_prices = -math.inf, prices
    for _ in range(_ROUNDS):
        bound = _bound(table, prices * top / whole)
        used = table.uses[bound.base].sum(axis=0, dtype=np.int64)
        value, slope = bound.value / top, (used - table.most) / whole
        if value > 1.0 + 1e-9:  # above the dearest choice: none keeps the limits
            return None
        if value > best:
            best, best_prices = value, prices
        cuts.append(_Cut(at_zero=value - float(slope @ prices), slope=slope))
        promise, prices = _next_prices(cuts, ceiling)
        while ceiling < _CEILING and (prices > 0.99 * ceiling).any():
            ceiling *= 100.0
            promise, prices = _next_prices(cuts, ceiling)
        if promise - best <= _CLOSE * max(1e-3, abs(best)):
            break
    return _bound(table, best_prices * top / whole)


def _bound(table: Table, prices: NDArray[np.float64]) -> Bound:
    priced = table.cost.astype(np.float64)
    for b, price in enumerate(prices):
        priced = priced + price * table.uses[:, b]
    least = np.minimum.reduceat(priced, table.start[:-1])
    reduced = priced - least[table.item]
    at_least = np.flatnonzero(reduced == 0.0)
    _, first = np.unique(table.item[at_least], return_index=True)
    paid = [float(price) * int(most) for price, most in zip(prices, table.most, strict=True)]
    total = math.fsum(least.tolist())
    rounding = 2.0**-50 * (total + sum(paid))
    return Bound(
        prices=prices,
        value=math.fsum([total, *(-p for p in paid)]) - rounding,
        reduced=reduced,
        base=at_least[first],
    )


def _next_prices(cuts: list[_Cut], ceiling: float) -> tuple[float, NDArray[np.float64]]:
    """Where the cutting planes allow the highest bound, and how high that is."""
    limits = len(cuts[0].slope)
    if limits == 1:
        return _crossing(cuts, ceiling)
    from scipy.optimize import linprog

    result = linprog(
        [-1.0] + [0.0] * limits,
        A_ub=[[1.0, *(-cut.slope)] for cut in cuts],
        b_ub=[cut.at_zero for cut in cuts],
        bounds=[(None, None)] + [(0.0, ceiling)] * limits,
        method="highs",
    )
    if result.x is None:
        return -math.inf, np.zeros(limits)
    return float(result.x[0]), np.clip(result.x[1:], 0.0, ceiling)


def _crossing(cuts: list[_Cut], ceiling: float) -> tuple[float, NDArray[np.float64]]:
    """The same for one price: where the flattest rising line meets the flattest falling one."""
    rising = [cut for cut in cuts if cut.slope[0] > 0.0]
    falling = [cut for cut in cuts if cut.slope[0] <= 0.0]
    if not rising:
        price = 0.0
    elif not falling:
        price = ceiling
    else:
        up = min(rising, key=lambda cut: float(cut.slope[0]))
        down = max(falling, key=lambda cut: float(cut.slope[0]))
        price = (down.at_zero - up.at_zero) / float(up.slope[0] - down.slope[0])
        price = min(max(price, 0.0), ceiling)
    return min(cut.at_zero + float(cut.slope[0]) * price for cut in cuts), np.array([price])
