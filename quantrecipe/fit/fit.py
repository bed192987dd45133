"""fit: the types that lose least within a budget, compared with the presets, as a frozen recipe.

Where a preset of llama.cpp keeps the same limits, and what was found doesn't lose less by more than the estimate may be
wrong, the recipe is that mix: by `margin`, and where alphas are the prior's by `doubt`, tensor by tensor. It is an
estimate all the same. Only what was measured on a text is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantrecipe.allocate.limits import meters
from quantrecipe.allocate.losses import Losses
from quantrecipe.fit.doubt import change_at_worst, doubtful, least_regret, seen_from
from quantrecipe.fit.frozen_recipe import Frozen
from quantrecipe.fit.margin import margin
from quantrecipe.fit.mixer import Mixer, wrapped
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.fit.open_recipe import check_floors
from quantrecipe.fit.reasons import Reason, reason
from quantrecipe.fit.request import Request
from quantrecipe.fit.stock import PREFIX, Mix, Rules, estimated_loss, rivals, stock_mixes, stock_recipes
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.importance import require_matrix_of, require_statistics_of
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.spending import Spending
from quantrecipe.plan.statistics import Statistics
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.targets.runnable import running_types

if TYPE_CHECKING:
    from quantrecipe.fit.trial import Trial
    from quantrecipe.fit.tried import Search

__all__ = ["Decision", "Fitted", "fit", "stock_text", "with_mix"]


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
    mixer:     makes other mixes for the same request
    search:    what was found by measuring mixes on a text, if any were
    trial:     what a held-out text said of the result, if there was one
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
    mixer: Mixer
    search: Search | None = None
    trial: Trial | None = None


def fit(
    model: Model,
    request: Request,
    registry: Registry,
    *,
    importance: Importance | None = None,
    importance_of_another_model: bool = False,
    sensitivity: Sensitivity | None = None,
    statistics: Statistics | None = None,
    stock: Mapping[str, Recipe] | None = None,
) -> Fitted:
    """The recipe that loses least within the budget.

    `stock`: the mixes to compare with, by name; None: all of llama.cpp's. `statistics`: for the request's encoder; the
    presets have it, too. PlanError where the budget can't be kept or
    leaves nothing to choose, ImportanceError where the matrix says that it is another model's (unless
    `importance_of_another_model`).
    """
    if not importance_of_another_model:
        require_matrix_of(model, importance)
    require_statistics_of(model, statistics)
    check_floors(request.floors, registry)
    needed = margin(sensitivity)
    losses = Losses(model, registry, sensitivity, {})
    types = offered_types(registry, request.types, request.target)
    recipes = stock_recipes(registry) if stock is None else stock
    if request.encoder is not None:
        recipes = {name: replace(recipe, encoder=request.encoder) for name, recipe in recipes.items()}
    mixes, left_out = stock_mixes(
        recipes,
        model,
        registry,
        importance,
        losses,
        allow_requantize=request.allow_requantize,
        statistics=statistics,
    )
    rules = _rules(request, model, registry, types)
    equals = rivals(mixes, rules, registry)
    best = least_regret(equals, losses)
    in_doubt = best is not None and doubtful(losses, model)
    if (kld := request.budget.kld) is not None:
        equals = tuple(mix for mix in equals if mix.loss <= kld)
        best, in_doubt = min(equals, key=lambda mix: (mix.nbytes, mix.loss), default=None), False
    if best is not None and in_doubt:
        sensitivity = seen_from(best.plan, losses, registry)  # what types are chosen by, from here on
    mixer = Mixer(
        model=model,
        request=request,
        registry=registry,
        importance=importance,
        statistics=statistics,
        types=types,
        losses=losses,
        rules=rules,
        best=best,
    )
    spending, frozen = mixer.fitted(sensitivity)
    loss = estimated_loss(frozen.plan, losses)
    worst = change_at_worst(frozen.plan, best.plan, losses) if best is not None and in_doubt else None
    # What was fitted was chosen by the estimate, and has its errors in its favour: it has to win by a margin.
    unsure = best is not None and best.loss * (1 - needed) < loss
    winner = best if unsure or (worst is not None and worst >= 0) else None
    if request.budget.kld is not None:  # of what loses no more than that, the smallest is wanted
        nbytes = sum(a.nbytes for a in frozen.plan.assignments)
        worst, winner = None, best if best is not None and best.nbytes <= nbytes else None
    return Fitted(
        text=frozen.text
        if winner is None
        else stock_text(request, winner, _by_estimate(request, winner, loss, worst, needed)),
        plan=frozen.plan if winner is None else winner.plan,
        fitted_text=frozen.text,
        fitted_plan=frozen.plan,
        spending=_spending_of(spending, request.budget, frozen.plan),
        loss=loss,
        decisions=_decisions_of(frozen, mixer),
        stock=tuple(mixes),
        left_out=MappingProxyType(left_out),
        rivals=equals,
        best_rival=best,
        at_worst=None if best is None or worst is None else best.loss + worst,
        winner=winner,
        mixer=mixer,
    )


def with_mix(
    fitted: Fitted, made: Frozen, winner: Mix | None, *, why: str, found: Search, comments: Sequence[str]
) -> Fitted:
    """What was measured in place of what was estimated. winner: the preset that is better, and why that is."""
    mixer = fitted.mixer
    said = "".join(f"# {line}\n" for line in comments)
    text = said + made.text
    return replace(
        fitted,
        text=text if winner is None else said + stock_text(mixer.request, winner, why),
        plan=made.plan if winner is None else winner.plan,
        fitted_text=text,
        fitted_plan=made.plan,
        spending=_spending_of(
            replace(mixer.expected(made.plan, fitted.spending), kld=None), mixer.request.budget, made.plan
        ),
        loss=estimated_loss(made.plan, mixer.losses),
        decisions=_decisions_of(made, mixer),
        best_rival=next((it for it in fitted.rivals if it.name == found.preset), fitted.best_rival),
        at_worst=None,
        winner=winner,
        search=found,
    )


def _decisions_of(frozen: Frozen, mixer: Mixer) -> tuple[Decision, ...]:
    """One for each rule, those with the most to lose first."""
    found = (
        Decision(members=its, reason=reason(its, mixer.types, mixer.losses, mixer.registry))
        for its in frozen.rules.values()
    )
    return tuple(sorted(found, key=lambda it: -it.reason.loss))


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


def _spending_of(spending: Spending, budget: Budget, plan: Plan) -> Spending:
    """The spending of the file that is written, which has the recipe in it."""
    limits = [
        replace(spent, most=budget.size or spent.most, used=plan.nbytes) if spent.key == "size" else spent
        for spent in spending.limits
    ]
    return replace(spending, limits=tuple(limits))


def _by_estimate(request: Request, mix: Mix, loss: float, worst: float | None, needed: float) -> str:
    if (kld := request.budget.kld) is not None:
        return f"no smaller mix than the preset {mix.name} was found that loses at most {kld:.3g} by the estimate"
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
        encoder=request.encoder,
    )
    return write_recipe(part, wrapped(f"Made by `quantrecipe fit`: {why}."))[0]
