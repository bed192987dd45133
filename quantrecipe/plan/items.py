"""Tensors and their candidates as the optimiser sees them; tensors that a tie joins are one item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from quantrecipe.budget.problem import Item, Option
from quantrecipe.plan.candidates import Candidate
from quantrecipe.plan.companions import companion_of
from quantrecipe.plan.degenerate import budget_error
from quantrecipe.plan.limits import Meter
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.resolve import Decision
from quantrecipe.recipe.budget import Budget
from quantrecipe.tensor import TensorInfo, head_name

__all__ = ["Choosable", "make_items"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choosable:
    """An item, and for each of its options the candidate of each of its tensors, by name."""

    item: Item
    members: tuple[Mapping[str, Candidate], ...]


def make_items(
    decisions: Sequence[Decision],
    open_to: Mapping[str, Sequence[Candidate]],
    budget: Budget,
    limits: Sequence[Meter],
    plan: Plan,
) -> list[Choosable]:
    """What there is to choose, in the order of the decisions. PlanError where a tie leaves no type in common."""
    head = head_name(plan.model.tensors)
    groups: dict[tuple[object, ...], list[TensorInfo]] = {}
    for decision in decisions:
        tensor = decision.tensor
        if tensor.name not in open_to:
            continue
        tie = next(
            (n for n, tie in enumerate(budget.ties) if any(p.matches(tensor, head) for p in tie)), None
        )
        key = (tensor.name,) if tie is None else (tie, tensor.layer)
        groups.setdefault(key, []).append(tensor)
    return [_choosable(tensors, open_to, budget, limits, plan) for tensors in groups.values()]


def _choosable(
    tensors: Sequence[TensorInfo],
    open_to: Mapping[str, Sequence[Candidate]],
    budget: Budget,
    limits: Sequence[Meter],
    plan: Plan,
) -> Choosable:
    by_format = [{c.choice.format.spec.name: c for c in open_to[tensor.name]} for tensor in tensors]
    common = [name for name in by_format[0] if all(name in others for others in by_format)]
    if not common:
        names = ", ".join(tensor.name for tensor in tensors)
        raise budget_error(
            budget,
            f"{names} are tied, and have no type in common to choose",
            "give their rules a type that all of them take, or loosen the tie",
        )
    members = [
        {tensor.name: found[name] for tensor, found in zip(tensors, by_format, strict=True)}
        for name in common
    ]
    options = [
        Option(
            name=name,
            cost=fsum(candidate.loss for candidate in its.values()),
            uses=tuple(
                sum(_takes(meter, tensor, its[tensor.name]) for tensor in tensors) for meter in limits
            ),
        )
        for name, its in zip(common, members, strict=True)
    ]
    label = tensors[0].name if len(tensors) == 1 else " + ".join(tensor.name for tensor in tensors)
    return Choosable(item=Item(name=label, options=tuple(options)), members=tuple(members))


def _takes(meter: Meter, tensor: TensorInfo, candidate: Candidate) -> int:
    """Of the limit, with the companion that the format has."""
    taken = meter.takes(tensor, candidate.nbytes)
    suffix = candidate.choice.format.spec.companion
    if suffix is not None and not candidate.choice.copied:
        factors = companion_of(tensor, suffix)
        taken += meter.takes(factors, 4 * factors.size)
    return taken
