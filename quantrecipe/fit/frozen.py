"""The frozen recipe: what was chosen, as few rules by role and layer, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantrecipe.errors import PlanError
from quantrecipe.plan.facts import model_facts
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.summarise import DraftRule, common_type, summarise
from quantrecipe.recipe.write import write_recipe
from quantrecipe.registry import Registry

__all__ = ["Frozen", "freeze"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Frozen:
    """A recipe, and what it makes of the model: the types that were chosen.

    rules: by the place of the rule, the tensors that it decides; without those that were never open
    """

    text: str
    recipe: Recipe
    plan: Plan
    rules: Mapping[str, tuple[Assignment, ...]]


def freeze(
    chosen: Plan,
    name: str,
    registry: Registry,
    *,
    why: Callable[[Sequence[Assignment]], str],
    plan_of: Callable[[Recipe], Plan],
    summary: str = "",
    comments: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
    importance: str | None = None,
) -> Frozen:
    """The recipe that plans to the types of `chosen`, a plan whose types were chosen within a budget.

    why:     the reason of a rule that decides these tensors
    plan_of: the plan of a recipe on the same model
    """
    assert chosen.spending is not None
    types = {a.tensor.name: a.type for a in chosen.assignments if a.tensor.name in chosen.spending.losses}
    tensors, n_layers = chosen.model.tensors, model_facts(chosen.model, has_importance=False)["n_layers"]
    default = common_type(types, tensors, n_layers, reached=types.keys())
    for base in (default, None):  # without a default every tensor is named, if need be
        rules = summarise(types, tensors, n_layers, default=base)
        text = _text(rules, name, base, summary, comments, extra, importance)
        recipe = load_recipe_text(text, file=name, registry=registry)
        plan = plan_of(recipe)
        if {a.tensor.name: a.type for a in plan.assignments if a.tensor.name in types} == types:
            break
    else:
        raise PlanError("no recipe can say what was chosen: names that patterns don't reach")
    decided = _decided(recipe, plan, types)
    reasons = [why(decided[str(rule.origin)]) for rule in recipe.rules if rule.own]
    rules = [replace(draft, why=reason) for draft, reason in zip(rules, reasons, strict=True)]
    rest = decided.get("")
    lines = [*comments, *([f"Everything else, {base}: {why(rest)}"] if rest and base else [])]
    text = _text(rules, name, base, summary, lines, extra, importance)
    recipe = load_recipe_text(text, file=name, registry=registry)
    return Frozen(text=text, recipe=recipe, plan=plan_of(recipe), rules=decided)


def _text(
    rules: Sequence[DraftRule],
    name: str,
    default: str | None,
    summary: str,
    comments: Sequence[str],
    extra: Mapping[str, Any] | None,
    importance: str | None,
) -> str:
    return write_recipe(
        name=name,
        rules=rules,
        summary=summary,
        default=default,
        comments=comments,
        extra=extra,
        importance=importance,
    )


def _decided(recipe: Recipe, plan: Plan, types: Mapping[str, str]) -> dict[str, tuple[Assignment, ...]]:
    """By the place of each rule what it decides; by "" what the default does."""
    places = {str(rule.origin) for rule in recipe.rules}
    found: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.tensor.name in types:
            found.setdefault(a.because if a.because in places else "", []).append(a)
    return {place: tuple(members) for place, members in found.items()}
