"""The frozen recipe: what was chosen, as few rules by role and layer, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError
from quantrecipe.plan.condition_facts import model_facts
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import EncoderChoice, Recipe, Target
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.recipe.writing.summarise import common_type, summarise
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
    target: Target | None = None,
    encoder: EncoderChoice | None = None,
    importance: bool = False,
) -> Frozen:
    """Make the recipe that plans to the types of `chosen`, a plan whose types were chosen within a budget.

    why:        the reason of a rule that decides these tensors
    plan_of:    the plan of a recipe on the same model
    importance: True where the recipe needs an importance matrix
    """
    weighed = chosen.spending.losses if chosen.spending is not None else {}
    types = {a.tensor.name: a.type for a in chosen.assignments if a.tensor.name in weighed}
    tensors, n_layers = chosen.model.tensors, model_facts(chosen.model, has_importance=False)["n_layers"]
    default = common_type(types, tensors, n_layers, reached=types.keys())
    for base in (default, None):  # without a default every tensor is named, if need be
        _, part = write_recipe(
            RecipePart(
                file=name,
                name=name,
                summary=summary,
                rules=tuple(summarise(types, tensors, n_layers, default=base)),
                default=base,
                target=target,
                encoder=encoder,
                importance={"required": True} if importance else {},
            ),
            comments,
        )
        recipe = load_part(part, registry=registry)
        plan = plan_of(recipe)
        if {a.tensor.name: a.type for a in plan.assignments if a.tensor.name in types} == types:
            break
    else:
        raise PlanError("no recipe can say what was chosen: names that patterns don't reach")
    decided = _decided(recipe, plan, types)
    rules = tuple(replace(rule, why=why(decided[str(rule.origin)])) for rule in part.rules)
    rest = decided.get("")
    lines = [*comments, *([f"Everything else, {base}: {why(rest)}"] if rest and base else [])]
    text, part = write_recipe(replace(part, rules=rules), lines)
    recipe = load_part(part, registry=registry)
    return Frozen(text=text, recipe=recipe, plan=plan_of(recipe), rules=decided)


def _decided(recipe: Recipe, plan: Plan, types: Mapping[str, str]) -> dict[str, tuple[Assignment, ...]]:
    """Return what each rule decides, by its place; and by "" what the default decides."""
    places = {str(rule.origin) for rule in recipe.rules}
    found: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.tensor.name in types:
            found.setdefault(a.because if a.because in places else "", []).append(a)
    return {place: tuple(members) for place, members in found.items()}
