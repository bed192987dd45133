"""allocate: each tensor that a recipe leaves open gets a type, so that as little as possible is lost within the budget.

Limits count what `apply` writes, to the byte: header, padding, tensors that rules fix, fallbacks and companions. The
header may depend on the choice (companions are tensors of their own), so a choice is laid out before it stands; if it
takes more than was thought, it is made again with that much less.

    choices(resolution, losses)   what is open, with what each type takes and costs: the same for every budget
    choose(choices, budget)       the best of it within one
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
from quantrecipe.api import FormatSpec
from quantrecipe.errors import PlanError
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.plan_of import each_decision, plan_of
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.spending import Spending, Spent
from quantrecipe.plan.trace import Decision
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.tensor import TensorInfo

__all__ = ["Choices", "allocate", "choices", "choose", "keep_budget"]

_ROUNDS = 8
"""Times that a choice is laid out, at most: what the header takes differs by a few bytes from choice to choice."""

_MORE = 50_000_000
"""Bytes: what so many more would buy is told, where they are at most one part in _MORE_SHARE of the limit."""
_MORE_SHARE = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What a recipe leaves open on a model, whatever the budget.

    open_to:  by the name of each tensor that is open, its candidates
    smallest: the plan with the smallest of them
    """

    resolution: Resolution
    losses: Losses
    open_to: Mapping[str, Sequence[Candidate]]
    smallest: Plan

    @property
    def tensors(self) -> list[TensorInfo]:
        """The tensors that are open."""
        return [it for it in self.resolution.trace.tensors if it.name in self.open_to]

    def seen_by(self, cost: Callable[[str, FormatSpec], float]) -> Choices:
        """The same choices, where a type costs a tensor, by its name, something else."""
        open_to = {
            name: [
                it if it.choice.copied else replace(it, loss=cost(name, it.choice.format.spec)) for it in its
            ]
            for name, its in self.open_to.items()
        }
        return replace(self, open_to=open_to)

    def items(self, budget: Budget) -> list[Choosable]:
        """What there is to choose, as items of a knapsack: the same for all budgets with the same limits and ties,
        however much they allow.
        """
        limits = meters(budget, self.smallest.written)
        return make_items(self.tensors, self.open_to, budget, limits, self.resolution.model.head)

    def plan(self, chosen: Mapping[str, Candidate]) -> Plan:
        """The plan with these candidates, one for each tensor that is open."""
        return plan_of(replace(self.resolution, chosen={name: it.type for name, it in chosen.items()}))

    def best(self) -> Plan:
        """The plan with the types that lose least; of those that lose the same, the smallest."""
        return self.plan(
            {name: min(its, key=lambda it: (it.loss, it.nbytes)) for name, its in self.open_to.items()}
        )


def choices(resolution: Resolution, losses: Losses) -> Choices:
    """What a resolution leaves open; there has to be something. PlanError where a tensor has no candidate."""
    open_ones = resolution.open
    found = each_decision(open_ones, lambda decision: candidates(decision, resolution, losses))
    open_to = {it.tensor.name: its for it, its in zip(open_ones, found, strict=True)}
    # Any choice tells what the limits are about and what is used whatever is chosen; the smallest types are one.
    smallest = {name: min(its, key=_smaller).type for name, its in open_to.items()}
    plan = plan_of(replace(resolution, chosen=smallest))
    return Choices(resolution=resolution, losses=losses, open_to=open_to, smallest=plan)


def allocate(resolution: Resolution, losses: Losses) -> Plan:
    """The plan with a type for every tensor that the recipe leaves open, and what became of the budget.

    PlanError where the budget can't be kept, or leaves nothing to choose; it names the nearest that can.
    """
    budget = _budget(resolution.recipe, resolution.open)
    return choose(choices(resolution, losses), budget)


def choose(
    open_: Choices,
    budget: Budget,
    *,
    items: Sequence[Choosable] | None = None,
    tell_gains: bool = True,
) -> Plan:
    """The plan that loses least within a budget, which has a limit. PlanError as `allocate`.

    items:      what `Choices.items` says of this budget, where the caller has it already
    tell_gains: also find out what a bit more of a limit would buy, which takes as long again; else gains are 0
    """
    plan, losses, open_to = open_.smallest, open_.losses, open_.open_to
    limits = meters(budget, plan.written)
    items = open_.items(budget) if items is None else items
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
        plan = open_.plan(chosen)
        over = [max(0, meter.whole(plan) - meter.most) for meter in limits]
        if not any(over):
            gains = [0.0] * len(limits)
            if tell_gains and budget.kld is None:
                gains = _gains(items, limits, room, solution)
            return replace(
                plan, spending=_spending(plan, chosen, limits, gains, solution, losses.source, budget.kld)
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


def _smaller(candidate: Candidate) -> tuple[int, str]:
    return candidate.nbytes, candidate.type


def _limits(limits: Sequence[Meter], room: Sequence[int]) -> list[Limit]:
    return [Limit(name=meter.key, most=most) for meter, most in zip(limits, room, strict=True)]


def _gains(
    items: Sequence[Choosable], limits: Sequence[Meter], room: Sequence[int], solution: Solution
) -> list[float]:
    """How much less would be lost with `_more` of each limit."""
    gains = []
    for b, meter in enumerate(limits):
        gain = solution.prices[b] * _more(meter)
        if len(limits) == 1:  # it takes no time: say what it would really buy
            richer = optimise([it.item for it in items], _limits(limits, [room[0] + _more(meter)]))
            gain = solution.cost - richer.cost if richer is not None else 0.0
        gains.append(gain)
    return gains


def _more(meter: Meter) -> int:
    return min(_MORE, max(1, meter.most // _MORE_SHARE))


def _spending(
    plan: Plan,
    chosen: Mapping[str, Candidate],
    limits: Sequence[Meter],
    gains: Sequence[float],
    solution: Solution,
    source: str,
    kld: float | None,
) -> Spending:
    losses = {name: candidate.loss for name, candidate in chosen.items()}
    loss = fsum(losses.values())
    spent = tuple(
        # What more bytes would buy isn't what was asked where the loss is the limit.
        Spent(
            key=meter.key,
            most=meter.most,
            used=meter.whole(plan),
            more=0 if kld is not None else _more(meter),
            gain=gain,
        )
        for meter, gain in zip(limits, gains, strict=True)
    )
    return Spending(
        limits=spent,
        loss=loss,
        bound=loss if kld is not None else loss - (solution.cost - solution.bound),
        source=source,
        losses=MappingProxyType(losses),
        kld=kld,
    )
