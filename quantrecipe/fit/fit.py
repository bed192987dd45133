"""fit: the types that lose least within a budget, compared with the presets, as a frozen recipe.

Where a preset of llama.cpp keeps the same limits, and what was found doesn't lose less by more than the estimate may be
wrong, the recipe is that mix: by `margin`, and where alphas are the prior's by `doubt`, tensor by tensor. It is an
estimate all the same. Only what was measured on a text is known.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantrecipe.allocate.limits import meters
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import PlanError
from quantrecipe.fit.doubt import change_at_worst, doubtful, least_regret, seen_from
from quantrecipe.fit.frozen_recipe import Frozen, freeze
from quantrecipe.fit.margin import margin
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.fit.open_recipe import Floor, check_floors, opened_recipe
from quantrecipe.fit.reasons import Reason, reason, reason_text
from quantrecipe.fit.stock import PREFIX, Mix, Rules, estimated_loss, rivals, stock_mixes, stock_recipes
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.importance import require_matrix_of
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.spending import Spending
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.target import Target
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.targets.runnable import running_types

if TYPE_CHECKING:
    from quantrecipe.fit.trial import Trial

__all__ = ["Decision", "Fitted", "Request", "fit", "like_budget", "stock_text"]

_WIDTH = 108
_ROUNDS = 12
"""Times that a mix is fitted, at most: the file has the recipe in it, too, and its bytes count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What fit is asked for.

    types:  names or globs; none: what runs well on the target
    floors: what gets nothing smaller
    ties:   patterns of tensors that get one type in each layer
    """

    name: str
    budget: Budget
    types: tuple[str, ...] = ()
    floors: tuple[Floor, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    target: Target | None = None
    allow_requantize: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What one rule decided, and why."""

    members: tuple[Assignment, ...]
    reason: Reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What fit found.

    text:      of the recipe
    plan:      what the recipe makes of the model
    fitted_text, fitted_plan, loss: of the mix that was fitted, also where a preset is the answer
    spending:  what became of the budget
    decisions: one for each rule, those with the most to lose first
    stock:     the presets that can be made of this model, the smallest first
    left_out:  the others, by name, and why they can't be made
    rivals:    those that keep the same limits, floors and ties, and have types that were wanted
    best_rival: of these, the one that loses least, as far as the estimate can tell
    at_worst:  what is lost if alphas that weren't measured are as wrong as they may be, seen from what the best rival
               is expected to lose; None where all were measured, or there is no rival
    winner:    the preset that the recipe is; None where the fitted one loses less by more than the margin
    """

    text: str
    plan: Plan
    fitted_text: str
    fitted_plan: Plan
    spending: Spending
    loss: float
    decisions: tuple[Decision, ...]
    stock: tuple[Mix, ...]
    left_out: Mapping[str, str]
    rivals: tuple[Mix, ...]
    best_rival: Mix | None
    at_worst: float | None
    winner: Mix | None
    trial: Trial | None = None


def fit(
    model: Model,
    request: Request,
    registry: Registry,
    *,
    importance: Importance | None = None,
    importance_of_another_model: bool = False,
    sensitivity: Sensitivity | None = None,
    stock: Mapping[str, Recipe] | None = None,
) -> Fitted:
    """The recipe that loses least within the budget.

    `stock`: the mixes to compare with, by name; None: all of llama.cpp's. PlanError where the budget can't be kept or
    leaves nothing to choose, ImportanceError where the matrix says that it is another model's (unless
    `importance_of_another_model`).
    """
    if not importance_of_another_model:
        require_matrix_of(model, importance)

    def plan_of(recipe: Recipe) -> Plan:
        return make_plan(
            recipe,
            model,
            registry=registry,
            importance=importance,
            importance_of_another_model=True,  # told above, once
            allow_requantize=request.allow_requantize,
            sensitivity=sensitivity,
        )

    check_floors(request.floors, registry)
    needed = margin(sensitivity)
    losses = Losses(model, registry, sensitivity, {})
    types = offered_types(registry, request.types, request.target)
    mixes, left_out = stock_mixes(
        stock_recipes(registry) if stock is None else stock,
        model,
        registry,
        importance,
        losses,
        allow_requantize=request.allow_requantize,
    )
    equals = rivals(mixes, _rules(request, model, registry, types), registry)
    best = least_regret(equals, losses)
    in_doubt = best is not None and doubtful(losses, model)
    if best is not None and in_doubt:
        sensitivity = seen_from(best.plan, losses, registry)  # what types are chosen by, from here on
    spending, frozen = _fitted(request, types, registry, losses, best, plan_of, importance is not None)
    decisions = tuple(
        sorted(
            (
                Decision(members=its, reason=reason(its, types, losses, registry))
                for its in frozen.rules.values()
            ),
            key=lambda it: -it.reason.loss,
        )
    )
    loss = estimated_loss(frozen.plan, losses)
    worst = change_at_worst(frozen.plan, best.plan, losses) if best is not None and in_doubt else None
    # What was fitted was chosen by the estimate, and has its errors in its favour: it has to win by a margin.
    unsure = best is not None and best.loss * (1 - needed) < loss
    winner = best if unsure or (worst is not None and worst >= 0) else None
    return Fitted(
        text=frozen.text
        if winner is None
        else stock_text(request, winner, _by_estimate(winner, loss, worst, needed)),
        plan=frozen.plan if winner is None else winner.plan,
        fitted_text=frozen.text,
        fitted_plan=frozen.plan,
        spending=_spending(spending, request.budget, frozen.plan),
        loss=loss,
        decisions=decisions,
        stock=tuple(mixes),
        left_out=MappingProxyType(left_out),
        rivals=equals,
        best_rival=best,
        at_worst=None if best is None or worst is None else best.loss + worst,
        winner=winner,
    )


def _rules(request: Request, model: Model, registry: Registry, types: Sequence[str]) -> Rules:
    """What a preset has to keep, to be a rival."""
    allowed: Collection[str] | None = None
    if request.types:
        allowed = types
    elif request.target is not None:
        allowed = running_types(registry, request.target)
    return Rules(
        limits=meters(request.budget, model), floors=request.floors, ties=request.ties, types=allowed
    )


def like_budget(plan: Plan, budget: Budget) -> Budget:
    """The budget that allows just the data of this plan."""
    nbytes = sum(a.nbytes for a in plan.assignments)
    weights = sum(tensor.size for tensor in plan.model.tensors)
    return replace(
        budget, bpw=(8 * nbytes + 4) / weights
    )  # half a byte more, so that rounding takes none away


def _fitted(
    request: Request,
    types: Sequence[str],
    registry: Registry,
    losses: Losses,
    best: Mix | None,
    plan_of: Callable[[Recipe], Plan],
    has_importance: bool,
) -> tuple[Spending, Frozen]:
    """What became of the budget, and the recipe that says which types were chosen.

    The file has the recipe in it, and its size counts.
    """
    budget = request.budget
    for _ in range(_ROUNDS):
        opened = opened_recipe(
            request.name,
            types,
            registry,
            budget=budget,
            floors=request.floors,
            ties=request.ties,
            target=request.target,
        )
        chosen = plan_of(opened)
        if chosen.spending is None:
            tensors = chosen.model.tensors
            raise PlanError(
                f"there is nothing to choose: none of its {len(tensors):,} tensors is a matrix that recipes quantize",
                "`quantrecipe inspect MODEL` lists them",
                file=chosen.model.path,
            )
        spending = _expected(chosen, chosen.spending, losses)
        frozen = freeze(
            chosen,
            request.name,
            registry,
            why=lambda members: reason_text(reason(members, types, losses, registry)),
            plan_of=plan_of,
            summary=_summary(chosen, spending),
            comments=_comments(chosen, request.budget, spending, losses, best),
            target=request.target,
            importance=has_importance,
        )
        over = 0 if request.budget.size is None else frozen.plan.nbytes - request.budget.size
        if over <= 0:
            return spending, frozen
        budget = replace(budget, size=chosen.nbytes - over)
    raise PlanError(
        "the recipe that is recorded in the file doesn't fit into the budget beside it",
        "allow a few KiB more",
    )


def _summary(plan: Plan, spending: Spending) -> str:
    return (
        f"{plan.model.path.name}, {plan.bits_per_weight:.3f} bits per weight; "
        f"expected loss {spending.loss:.3g} (KL divergence)"
    )


def _expected(plan: Plan, spending: Spending, losses: Losses) -> Spending:
    """The spending in what is expected, whatever the types were chosen by."""
    found = {
        a.tensor.name: 0.0 if a.copied else losses.of(a.tensor.name, a.format.spec)
        for a in plan.assignments
        if a.tensor.name in spending.losses
    }
    loss = fsum(found.values())
    bound = loss - (spending.loss - spending.bound)
    return replace(spending, loss=loss, bound=bound, source=losses.source, losses=MappingProxyType(found))


def _spending(spending: Spending, budget: Budget, plan: Plan) -> Spending:
    """The spending of the file that is written, which has the recipe in it."""
    limits = [
        replace(spent, most=budget.size or spent.most, used=plan.nbytes) if spent.key == "size" else spent
        for spent in spending.limits
    ]
    return replace(spending, limits=tuple(limits))


def _comments(plan: Plan, budget: Budget, spending: Spending, losses: Losses, best: Mix | None) -> list[str]:
    limits = ", ".join(f"{meter.key} {meter.text(meter.most)}" for meter in meters(budget, plan.written))
    said = [
        f"Made by `quantrecipe fit` for {plan.model.path.name} ({plan.model.arch}). Limits: {limits}.",
        f"Expected loss {spending.loss:.3g}, mean KL divergence in nats; losses are from: {losses.source}.",
    ]
    if doubtful(losses, plan.model):
        said.append(
            "How much tensors matter wasn't measured on this model, but taken as usual: no promise that this is better "
            "than a preset. --text measures it."
        )
    if best is not None:
        said.append(
            f"The best preset within the same limits is {best.name}, with {best.loss:.3g} by the same estimate."
        )
    said.append("Reasons say what a rule's tensors lose, and what the nearest other types would change.")
    return [part for line in said for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ")]


def _by_estimate(mix: Mix, loss: float, worst: float | None, needed: float) -> str:
    said = (
        f"within these limits the preset {mix.name} loses {mix.loss:.3g} by the same estimate by which the best mix "
        f"that was found loses {loss:.3g}"
    )
    if worst is not None and worst >= 0:
        return f"{said}, and may lose more, since how much tensors matter wasn't measured"
    return f"{said}. Below {100 * needed:.0f} % less, such estimates aren't to be relied on"


def stock_text(request: Request, mix: Mix, why: str) -> str:
    """The text of a recipe that is nothing but a preset."""
    part = RecipePart(
        file=request.name,
        name=request.name,
        summary=f"llama.cpp's {mix.name}: nothing was found that surely loses less",
        extends=(Inclusion(ref=f"{PREFIX}{mix.name}"),),
        target=request.target,
    )
    comments = textwrap.wrap(f"Made by `quantrecipe fit`: {why}.", _WIDTH, subsequent_indent="  ")
    return write_recipe(part, comments)[0]
