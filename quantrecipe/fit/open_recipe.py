"""The recipe that leaves everything open: every matrix may have every type on offer, above its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import Recipe, Rule
from quantrecipe.recipe.target import Target
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.registry import Registry

__all__ = ["Floor", "check_floors", "opened_recipe"]

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
    part = RecipePart(file=name, name=name, rules=tuple(rules), fallback="chain", target=target)
    _, placed = write_recipe(part)
    recipe = load_part(placed, registry=registry)
    tied = tuple(tuple(Pattern.parse(text) for text in tie) for tie in ties) or budget.ties
    return replace(recipe, budget=replace(budget, ties=tied))


def _rules(tensors: str, types: Sequence[str], registry: Registry) -> list[Rule]:
    """Rows that don't divide into super-blocks choose among types of small blocks."""
    large = [name for name in types if registry.formats[name].spec.block <= _SUPER_BLOCK]
    small = [name for name in types if registry.formats[name].spec.block < _SUPER_BLOCK]
    rules = []
    if small and len(small) < len(large):
        when = Expression.parse(f"cols % {_SUPER_BLOCK} != 0")
        rules.append(Rule.of([tensors], choose=tuple(small), when=when, optional=True))
        # Rows that take super-blocks are better off with these; Q8_0 has no counterpart among them.
        large = [name for name in large if name == "Q8_0" or name not in small] or large
    rules.append(Rule.of([tensors], choose=tuple(large), optional=True))
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
