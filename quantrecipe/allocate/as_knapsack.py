"""A budget as a knapsack problem: items and options for the optimiser, and budgets that leave it nothing to choose.

An item is a tensor with its candidates, or all tensors that a tie joins, with the types that they have in common.
Budgets that allow only the smallest types, or more than the best ones take, are refused: they would give a model that
is all floor, or all ceiling, and whoever wrote them meant something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, fsum

from quantrecipe.allocate.candidates import Candidate
from quantrecipe.allocate.knapsack.problem import Item, Limit, Option
from quantrecipe.allocate.limits import SPEED, Meter
from quantrecipe.errors import PlanError
from quantrecipe.plan.companions import companion_of
from quantrecipe.recipe.budget import Budget
from quantrecipe.tensor import TensorInfo

__all__ = ["Choosable", "budget_error", "make_items", "refuse_degenerate", "smallest_first"]

_LOSS_STEPS = 10_000_000
"""Parts of the loss that may be lost, in which losses are counted, rounded up, where bytes are what is minimised."""

_MEANT = ("size", "bpw", "active", "tables", "without_tables")
"""Limits that say what is wanted; the others say what there is, and may be more than is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choosable:
    """An item, and for each of its options the candidate of each of its tensors, by name."""

    item: Item
    members: tuple[Mapping[str, Candidate], ...]


def budget_error(budget: Budget, what: str, remedy: str) -> PlanError:
    """An error at the budget's place in the recipe."""
    return PlanError(what, remedy, file=budget.origin.file, line=budget.origin.line)


def make_items(
    tensors: Sequence[TensorInfo],
    open_to: Mapping[str, Sequence[Candidate]],
    budget: Budget,
    limits: Sequence[Meter],
    head: str | None,
) -> list[Choosable]:
    """What there is to choose for these tensors. PlanError where a tie leaves no type in common.

    open_to: the candidates of each tensor, by its name
    head:    name of the tensor that makes the logits, which patterns of ties may mean
    """
    groups: dict[tuple[object, ...], list[TensorInfo]] = {}
    for tensor in tensors:
        tie = next(
            (n for n, tie in enumerate(budget.ties) if any(p.matches(tensor, head) for p in tie)), None
        )
        key = (tensor.name,) if tie is None else (tie, tensor.layer)
        groups.setdefault(key, []).append(tensor)
    return [_choosable(members, open_to, budget, limits) for members in groups.values()]


def smallest_first(
    items: Sequence[Choosable],
    fixed: float,
    fixed_uses: Sequence[int],
    limits: Sequence[Meter],
    budget: Budget,
) -> tuple[list[Item], list[Limit]]:
    """The same choice with bytes as what is minimised, and the loss as one more limit: at most the budget's kld.

    fixed: what is lost whatever is chosen. PlanError where that, and the best types, lose more than may be lost.
    """
    allowed = (budget.kld or 0.0) - fixed
    best = fsum(min(option.cost for option in it.item.options) for it in items)
    if best >= allowed:
        what = f"no types that are allowed lose so little: kld is {budget.kld:.3g}, and the best ones lose "
        raise budget_error(
            budget,
            f"{what}{best + fixed:.3g} by the estimate",
            f"allow at least {1.01 * (best + fixed):.3g}, or better types",
        )
    unit = allowed / _LOSS_STEPS
    turned = [
        Item(
            name=it.item.name,
            options=tuple(
                Option(
                    name=option.name,
                    cost=float(sum(candidate.nbytes for candidate in its.values())),
                    uses=(*option.uses, ceil(option.cost / unit)),
                )
                for option, its in zip(it.item.options, it.members, strict=True)
            ),
        )
        for it in items
    ]
    room = [
        Limit(name=meter.key, most=meter.most - taken)
        for meter, taken in zip(limits, fixed_uses, strict=True)
    ]
    return turned, [*room, Limit(name="kld", most=_LOSS_STEPS)]


def refuse_degenerate(
    items: Sequence[Choosable], limits: Sequence[Meter], fixed: Sequence[int], budget: Budget
) -> None:
    """PlanError where a limit is below what the smallest types take, allows just those, or more than the best take.

    fixed: what is used of each limit, whatever is chosen
    """
    best = [min(it.item.options, key=lambda o: (o.cost, o.uses)) for it in items]
    needless = []
    loosely = (
        budget.kld is not None
    )  # the smallest choice within it is wanted: other limits are what there is
    for b, (meter, taken) in enumerate(zip(limits, fixed, strict=True)):
        least = [min(option.uses[b] for option in it.item.options) for it in items]
        smallest = taken + sum(least)
        said = meter.text(meter.most)
        if meter.most < smallest and meter.key == SPEED:
            quickest = meter.text(smallest)
            raise budget_error(
                budget,
                f"the budget can't be kept: at least {said} are asked for, and the quickest types that are allowed "
                f"give {quickest} on this machine",
                f"ask for at most {quickest}, or allow quicker types",
            )
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
        if not loosely and steps and meter.key != SPEED and meter.most < smallest + min(steps):
            nearest = meter.text(smallest + min(steps))
            raise budget_error(
                budget,
                f"the budget leaves nothing to choose: {meter.key} is {said}, which every tensor's smallest type fills",
                f"allow at least {nearest}, or smaller types",
            )
        needless.append(taken + sum(option.uses[b] for option in best))
    meant = [b for b, meter in enumerate(limits) if meter.key in _MEANT]
    if (
        not loosely
        and meant
        and all(meter.most >= most for meter, most in zip(limits, needless, strict=True))
    ):
        meter, most = limits[meant[0]], needless[meant[0]]
        if meter.most > most:
            raise budget_error(
                budget,
                f"the budget leaves nothing to choose: {meter.key} is {meter.text(meter.most)}, and the best types "
                f"that are allowed take {meter.text(most)}",
                f"ask for less than {meter.text(most)}, or allow better types",
            )


def _choosable(
    tensors: Sequence[TensorInfo],
    open_to: Mapping[str, Sequence[Candidate]],
    budget: Budget,
    limits: Sequence[Meter],
) -> Choosable:
    label = " + ".join(tensor.name for tensor in tensors)
    by_format = [{c.choice.format.spec.name: c for c in open_to[tensor.name]} for tensor in tensors]
    common = [name for name in by_format[0] if all(name in others for others in by_format)]
    if not common:
        raise budget_error(
            budget,
            f"{', '.join(tensor.name for tensor in tensors)} are tied, and have no type in common to choose",
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
    return Choosable(item=Item(name=label, options=tuple(options)), members=tuple(members))


def _takes(meter: Meter, tensor: TensorInfo, candidate: Candidate) -> int:
    """What the tensor takes of the limit as this type, with the companion that the format has."""
    taken = meter.takes(tensor, candidate.nbytes, candidate.type)
    suffix = candidate.choice.format.spec.companion
    if suffix is not None and not candidate.choice.copied:
        factors = companion_of(tensor, suffix)
        taken += meter.takes(factors, 4 * factors.size, "F32")
    return taken


def _cost_at(it: Choosable, b: int, use: int) -> float:
    return min(option.cost for option in it.item.options if option.uses[b] == use)
