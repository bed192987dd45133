"""Budgets that leave nothing to choose are refused: they would give a model that is all floor, or all ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantrecipe.errors import PlanError
from quantrecipe.plan.limits import Meter
from quantrecipe.recipe.budget import Budget

if TYPE_CHECKING:
    from quantrecipe.plan.items import Choosable

__all__ = ["budget_error", "refuse_degenerate"]

_MEANT = ("size", "bpw", "active")
"""Limits that say what is wanted; the others say what there is, and may be more than is needed."""


def budget_error(budget: Budget, what: str, remedy: str) -> PlanError:
    """An error at the budget's place in the recipe."""
    return PlanError(what, remedy, file=budget.origin.file, line=budget.origin.line)


def refuse_degenerate(
    items: Sequence[Choosable], limits: Sequence[Meter], fixed: Sequence[int], budget: Budget
) -> None:
    """PlanError where a limit is below what the smallest types take, allows just those, or more than the best take."""
    best = [min(it.item.options, key=lambda o: (o.cost, o.uses)) for it in items]
    needless = []
    for b, (meter, taken) in enumerate(zip(limits, fixed, strict=True)):
        least = [min(option.uses[b] for option in it.item.options) for it in items]
        smallest = taken + sum(least)
        said = meter.text(meter.most)
        if meter.most < smallest:
            raise budget_error(
                budget,
                f"the budget can't be kept: {meter.key} is {said}, and the smallest types that are allowed take "
                f"{meter.text(smallest)}",
                f"allow at least {meter.text(smallest)}, or smaller types",
            )
        steps = [
            option.uses[b] - low
            for it, low in zip(items, least, strict=True)
            for option in it.item.options
            if option.uses[b] > low and option.cost < _cost_at(it, b, low)
        ]
        if steps and meter.most < smallest + min(steps):
            nearest = meter.text(smallest + min(steps))
            raise budget_error(
                budget,
                f"the budget leaves nothing to choose: {meter.key} is {said}, which every tensor's smallest type fills",
                f"allow at least {nearest}, or smaller types",
            )
        needless.append(taken + sum(option.uses[b] for option in best))
    meant = [b for b, meter in enumerate(limits) if meter.key in _MEANT]
    if meant and all(meter.most >= most for meter, most in zip(limits, needless, strict=True)):
        meter, most = limits[meant[0]], needless[meant[0]]
        if meter.most > most:
            raise budget_error(
                budget,
                f"the budget leaves nothing to choose: {meter.key} is {meter.text(meter.most)}, and the best types "
                f"that are allowed take {meter.text(most)}",
                f"ask for less than {meter.text(most)}, or allow better types",
            )


def _cost_at(it: Choosable, b: int, use: int) -> float:
    return min(option.cost for option in it.item.options if option.uses[b] == use)
