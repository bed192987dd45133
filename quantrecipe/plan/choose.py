"""Which of its candidates each `choose` tensor gets: the choice that loses least within the recipe's budget.

Limits count what `apply` writes, to the byte: header, padding, tensors that rules fix, fallbacks and companions. The
header may depend on the choice (companions are tensors of their own), so a choice is laid out before it stands; if it
takes more than was thought, it is made again with that much less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import fsum
from types import MappingProxyType

from quantrecipe.budget.optimise import optimise
from quantrecipe.budget.problem import Limit, Solution
from quantrecipe.errors import PlanError
from quantrecipe.plan.candidates import Candidate
from quantrecipe.plan.degenerate import budget_error, refuse_degenerate
from quantrecipe.plan.items import Choosable, make_items
from quantrecipe.plan.limits import Meter, meters
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.resolve import Decision
from quantrecipe.plan.spending import Spending, Spent
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.recipe import Recipe

__all__ = ["hold", "spend"]

_ROUNDS = 8
_MORE = 50_000_000  # bytes: what it would buy is said, where that is a small part of the limit
_MORE_SHARE = 20


def spend(
    decisions: Sequence[Decision],
    open_to: Mapping[str, Sequence[Candidate]],
    recipe: Recipe,
    source: str,
    plan_of: Callable[[Sequence[Decision]], Plan],
) -> Plan:
    """The plan with a type for every tensor that has candidates in `open_to`.

    source:  where the candidates' losses are from
    plan_of: makes a plan of decisions that all have a type

    PlanError where the budget can't be kept, or leaves nothing to choose; it names the nearest that can.
    """
    budget = _budget(recipe, decisions)
    plan = plan_of(_decided(decisions, {name: min(its, key=_smaller) for name, its in open_to.items()}))
    limits = meters(budget, plan.written)
    items = make_items(decisions, open_to, budget, limits, plan)
    fixed = [meter.whole(plan) - meter.used_by(plan, open_to.keys()) for meter in limits]
    refuse_degenerate(items, limits, fixed, budget)
    room = [meter.most - taken for meter, taken in zip(limits, fixed, strict=True)]
    solution = None
    for _ in range(_ROUNDS):
        solution = optimise([it.item for it in items], _limits(limits, room))
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
        plan = plan_of(_decided(decisions, chosen))
        over = [max(0, meter.whole(plan) - meter.most) for meter in limits]
        if not any(over):
            return replace(plan, spending=_spending(plan, chosen, items, limits, room, solution, source))
        room = [left - much for left, much in zip(room, over, strict=True)]
    raise budget_error(budget, "the budget is so tight that the file's header decides", "raise it by 1 KiB")


def hold(plan: Plan, recipe: Recipe) -> Plan:
    """The plan of a recipe that leaves nothing to choose, if its budget allows it; else PlanError."""
    if recipe.budget is None or not recipe.budget.limited:
        return plan
    for meter in meters(recipe.budget, plan.written):
        if (taken := meter.whole(plan)) > meter.most:
            raise budget_error(
                recipe.budget,
                f"the recipe takes more than the budget allows: {meter.key} is {meter.text(meter.most)}, and it takes "
                f"{meter.text(taken)}; no rule leaves a type open",
                "give rules a list of types to `choose` from, or allow more",
            )
    return plan


def _budget(recipe: Recipe, decisions: Sequence[Decision]) -> Budget:
    if recipe.budget is not None and recipe.budget.limited:
        return recipe.budget
    rule = next(d.rule for d in decisions if d.rule is not None and d.rule.choose)
    raise PlanError(
        "this rule leaves the choice among several types, and there is no budget to choose within",
        "give the recipe a budget (budget: {bpw: 4.5}), or say --bpw, --size or --vram",
        file=rule.origin.file,
        line=rule.origin.line,
    )


def _smaller(candidate: Candidate) -> tuple[int, str]:
    return candidate.nbytes, candidate.type


def _decided(decisions: Sequence[Decision], chosen: Mapping[str, Candidate]) -> list[Decision]:
    return [
        replace(d, type=chosen[d.tensor.name].type, because=f"{d.because} (chosen)")
        if d.tensor.name in chosen
        else d
        for d in decisions
    ]


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
) -> Spending:
    losses = {name: candidate.loss for name, candidate in chosen.items()}
    loss = fsum(losses.values())
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
