"""The recipe that leaves everything open: every matrix may have every type on offer, above its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantrecipe.errors import PlanError
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.pattern import Pattern
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.summarise import DraftRule
from quantrecipe.recipe.target import Target
from quantrecipe.recipe.write import write_recipe
from quantrecipe.registry import Registry

__all__ = ["Floor", "check_floors", "opened_recipe", "target_key"]

_SUPER_BLOCK = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """Tensors that get nothing smaller than a type; `why` is "" where the user said so."""

    tensors: str
    type: str
    why: str = ""


def opened_recipe(
    name: str,
    types: Sequence[str],
    registry: Registry,
    *,
    budget: Budget,
    floors: Sequence[Floor] = (),
    ties: Sequence[Sequence[str]] = (),
    target: Target | None = None,
) -> Recipe:
    """A recipe whose rules choose among `types`, which are ordered by size, within the budget."""
    rules = []
    for floor in floors:
        rules += _rules(floor.tensors, _above(floor, types, registry), registry)
    rules += _rules("regex:.", types, registry)
    text = write_recipe(
        name=name, rules=rules, fallback="chain", extra={"target": target_key(target)} if target else None
    )
    recipe = load_recipe_text(text, file=name, registry=registry)
    tied = tuple(tuple(Pattern.parse(text) for text in tie) for tie in ties) or budget.ties
    return replace(recipe, budget=replace(budget, ties=tied))


def target_key(target: Target) -> Mapping[str, Any]:
    """The target as a recipe has it."""
    said = {"engine": target.engine, "build": target.build, "device": target.device}
    return {key: value for key, value in said.items() if value is not None}


def _rules(tensors: str, types: Sequence[str], registry: Registry) -> list[DraftRule]:
    """Rows that don't divide into super-blocks choose among types of small blocks."""
    large = [name for name in types if registry.formats[name].spec.block <= _SUPER_BLOCK]
    small = [name for name in types if registry.formats[name].spec.block < _SUPER_BLOCK]
    rules = []
    if small and len(small) < len(large):
        when = f"cols % {_SUPER_BLOCK} != 0"
        rules.append(DraftRule(tensors=(tensors,), choose=tuple(small), when=when, optional=True))
        large = [name for name in large if name == "Q8_0" or name not in small] or large
    rules.append(DraftRule(tensors=(tensors,), choose=tuple(large), optional=True))
    return rules


def check_floors(floors: Sequence[Floor], registry: Registry) -> None:
    """PlanError for types that there aren't."""
    for floor in floors:
        if floor.type not in registry.formats:
            problem = registry.missing_format(floor.type)
            raise PlanError(f"--floor {floor.tensors}={floor.type}: {problem.what}", problem.remedy)


def _above(floor: Floor, types: Sequence[str], registry: Registry) -> list[str]:
    least = registry.formats[floor.type].spec.bits_per_weight
    kept = [name for name in types if registry.formats[name].spec.bits_per_weight >= least]
    return kept or [floor.type]
