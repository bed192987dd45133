"""allocate: each tensor that a recipe leaves open gets a type, so that as little as possible is lost within the budget.

Limits count what `apply` writes, to the byte: header, padding, tensors that rules fix, fallbacks and companions. The
header may depend on the choice (companions are tensors of their own), so a choice is laid out before it stands; if it
takes more than was thought, it is made again with that much less.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import fsum
from types import MappingProxyType

from quantrecipe.allocate.as_knapsack import (
    Choosable,
    budget_error,
    make_items,
    refuse_degenerate,
    smallest_first,
)
from quantrecipe.allocate.candidates import Candidate, candidates
from quantrecipe.allocate.knapsack.optimise import optimise
from quantrecipe.allocate.knapsack.problem import Limit, Solution
from quantrecipe.allocate.limits import Meter, meters
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import PlanError
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.plan_of import each_decision, plan_of
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.spending import Spending, Spent
from quantrecipe.plan.trace import Decision
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.recipe import Recipe

__all__ = ["allocate", "keep_budget"]

_ROUNDS = 8
"""Times that a choice is laid out, at most: what the header takes differs by a few bytes from choice to choice."""

_MORE = 50_000_000
"""Bytes: what so many more would buy is told, where they are at most one part in _MORE_SHARE of the limit."""
_MORE_SHARE = 20


def allocate(resolution: Resolution, losses: Losses) -> Plan:
    """The plan with a type for every tensor that the recipe leaves open, and what became of the budget.

    PlanError where the budget can't be kept, or leaves nothing to choose; it names the nearest that can.
    """
    open_ones = resolution.open
    found = each_decision(open_ones, lambda decision: candidates(decision, resolution, losses))
    open_to = {it.tensor.name: its for it, its in zip(open_ones, found, strict=True)}
    budget = _budget(resolution.recipe, open_ones)
    # Any choice tells what the limits are about and what is used whatever is chosen; the smallest types are one.
    plan = _plan(resolution, {name: min(its, key=_smaller) for name, its in open_to.items()})
    limits = meters(budget, plan.written)
    items = make_items([it.tensor for it in open_ones], open_to, budget, limits, resolution.model.head)
    fixed = [meter.whole(plan) - meter.used_by(plan, open_to.keys()) for meter in limits]
    refuse_degenerate(items, limits, fixed, budget)
    room = [meter.most - taken for meter, taken in zip(limits, fixed, strict=True)]
    lost = _lost_anyway(plan, open_to.keys(), losses) if budget.kld is not None else 0.0
    for _ in range(_ROUNDS):
        if budget.kld is None:
            solution = optimise([it.item for it in items], _limits(limits, room))
        else:
            taken = [meter.most - left for meter, left in zip(limits, room, strict=True)]
            solution = optimise(*smallest_first(items, lost, taken, limits, budget))
        if solution is None and budget.kld is not None:
            raise _how_near(budget, items, lost, limits, room)
        if solution is None:
            raise budget_error(
                budget,
                "no choice of types keeps all limits of the budget together",
                "raise one of them, or allow smaller types",
            )
        chosen = {
            name: member
            for it, number in zip(items, solution.choices, strict=True)
            for name, member in it.members[number].items()
        }
        plan = _plan(resolution, chosen)
        over = [max(0, meter.whole(plan) - meter.most) for meter in limits]
        if not any(over):
            return replace(
                plan,
                spending=_spending(plan, chosen, items, limits, room, solution, losses.source, budget.kld),
            )
        room = [left - much for left, much in zip(room, over, strict=True)]
    raise budget_error(budget, "the budget is so tight that the file's header decides", "raise it by 1 KiB")


def _lost_anyway(plan: Plan, names: Collection[str], losses: Losses) -> float:
    """What tensors lose whose types aren't open."""
    return fsum(
        losses.of(a.tensor.name, a.format.spec)
        for a in plan.assignments
        if not a.copied and a.owner is None and a.format.spec.codec and a.tensor.name not in names
    )


def _how_near(
    budget: Budget, items: Sequence[Choosable], lost: float, limits: Sequence[Meter], room: Sequence[int]
) -> PlanError:
    """The error where other limits and the kld exclude each other: what the best choice within them loses."""
    best = optimise([it.item for it in items], _limits(limits, room))
    keys = ", ".join(f"{meter.key} {meter.text(meter.most)}" for meter in limits)
    what = f"no choice of types keeps the limits ({keys}) and loses at most {budget.kld:.3g} by the estimate"
    if best is None:
        return budget_error(budget, what, "raise one of them, or allow smaller types")
    near = best.cost + lost
    return budget_error(
        budget, f"{what}: the best one loses {near:.3g}", f"allow a kld of {1.01 * near:.3g}, or more bytes"
    )


def keep_budget(plan: Plan, budget: Budget, losses: Losses) -> Plan:
    """The plan of a recipe that leaves nothing to choose, if its budget allows it; else PlanError."""
    if budget.kld is not None and (lost := _lost_anyway(plan, (), losses)) > budget.kld:
        raise budget_error(
            budget,
            f"the recipe loses more than the budget allows: kld is {budget.kld:.3g}, and it loses {lost:.3g} by the "
            "estimate; no rule leaves a type open",
            "give rules a list of types to `choose` from, or allow more",
        )
    for meter in meters(budget, plan.written):
        if (taken := meter.whole(plan)) > meter.most:
            raise budget_error(
                budget,
                f"the recipe takes more than the budget allows: {meter.key} is {meter.text(meter.most)}, and it takes "
                f"{meter.text(taken)}; no rule leaves a type open",
                "give rules a list of types to `choose` from, or allow more",
            )
    return plan


def _budget(recipe: Recipe, open_ones: Sequence[Decision]) -> Budget:
    if recipe.budget is not None and recipe.budget.limited:
        return recipe.budget
    rule = open_ones[0].rule
    raise PlanError(
        "this rule leaves the choice among several types, and there is no budget to choose within",
        "give the recipe a budget (budget: {bpw: 4.5}), or say --bpw, --size, --vram or --kld",
        file=None if rule is None else rule.origin.file,
        line=None if rule is None else rule.origin.line,
    )


def _plan(resolution: Resolution, chosen: Mapping[str, Candidate]) -> Plan:
    return plan_of(replace(resolution, chosen={name: it.type for name, it in chosen.items()}))


def _smaller(candidate: Candidate) -> tuple[int, str]:
    return candidate.nbytes, candidate.type


def _limits(limits: Sequence[Meter], room: Sequence[int]) -> list[Limit]:
    return [Limit(name=meter.key, most=most) for meter, most in zip(limits, room, strict=True)]


def _spending(
    plan: Plan,
    chosen: Mapping[str, Candidate],
    items: Sequence[Choosable],
    limits: Sequence[Meter],
    room: Sequence[int],
    solution: Solution,
    source: str,
    kld: float | None,
) -> Spending:
    losses = {name: candidate.loss for name, candidate in chosen.items()}
    loss = fsum(losses.values())
    if kld is not None:  # what more bytes would buy isn't what was asked
        found = tuple(
            Spent(key=meter.key, most=meter.most, used=meter.whole(plan), more=0, gain=0.0)
            for meter in limits
        )
        return Spending(
            limits=found, loss=loss, bound=loss, source=source, losses=MappingProxyType(losses), kld=kld
        )
    spent = []
    for b, meter in enumerate(limits):
        more = min(_MORE, max(1, meter.most // _MORE_SHARE))
        gain = solution.prices[b] * more
        if len(limits) == 1:  # it takes no time: say what it would really buy
            richer = optimise([it.item for it in items], _limits(limits, [room[0] + more]))
            gain = solution.cost - richer.cost if richer is not None else 0.0
        spent.append(Spent(key=meter.key, most=meter.most, used=meter.whole(plan), more=more, gain=gain))
    return Spending(
        limits=tuple(spent),
        loss=loss,
        bound=loss - (solution.cost - solution.bound),
        source=source,
        losses=MappingProxyType(losses),
    )
