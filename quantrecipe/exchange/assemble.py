"""The last step of every import of a command: the parts become a recipe, which is held against a model if there is one.

On the model, rules that would do nothing are left out, and where the other program gives a tensor another type than
the rules say, rules of their own set that right.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.source import Source
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.recipe.writing.summarise import summarise
from quantrecipe.registry import Registry

__all__ = ["Imported", "Parts", "assemble", "decided_by_rule", "wrapped"]


_WIDTH = 108  # of comments: with `# ` before them, as wide as the widest line of a rule


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A recipe that was made of something else.

    text:  the recipe
    notes: what couldn't be taken over as it was, for the person who imports it
    rules: how many rules it has
    """

    text: str
    notes: tuple[str, ...] = ()
    rules: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts(RecipePart):
    """What an import says as a recipe; `origin` names what it is imported from, and `notes` become comments, too."""

    origin: str
    notes: tuple[str, ...] = ()


def assemble(parts: Parts, source: Source | None = None, truth: Mapping[str, str] | None = None) -> Imported:
    """Make the recipe.

    source: None where no model was given
    truth:  the type that the other program gives each of its tensors; None where nobody can say
    """
    if source is None:
        return _imported(parts)
    recipe = _load(parts, source.registry)
    if recipe is None:
        note = (
            f"not held against the model, since these packages aren't installed: {', '.join(parts.requires)}"
        )
        return _imported(replace(parts, notes=(*parts.notes, note)))
    parts = _without_idle(parts, recipe, source)
    recipe = _load(parts, source.registry)
    if truth is None or recipe is None:
        return _imported(parts)
    planned = source.planned(recipe) or {}
    wrong = {name for name, type_ in truth.items() if name not in planned or planned[name].type != type_}
    if wrong:
        base = {name: it.wanted for name, it in planned.items()}
        types = {name: type_ if name in wrong else base[name] for name, type_ in truth.items()}
        exceptions = summarise(types, source.tensors, source.model.n_layers, base=base)
        why = f"so that {source.model.path.name} has the types that {parts.origin} gives it"
        set_right = tuple(replace(rule, why=why) for rule in exceptions)
        both = replace(parts, rules=(*set_right, *parts.rules))
        if (again := _load(both, source.registry)) is not None:
            parts = _without_idle(both, again, source)
    return _imported(parts)


def wrapped(lines: Iterable[str]) -> list[str]:
    """Break comments into lines that fit."""
    return [part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ") or [""]]


def decided_by_rule(parts: Parts, source: Source) -> list[frozenset[str]] | None:
    """Return the tensors that each rule of the parts decides; None if a package that it requires is missing."""
    recipe = _load(parts, source.registry)
    return None if recipe is None else source.decided(recipe)


def _without_idle(parts: Parts, recipe: Recipe, source: Source) -> Parts:
    """Leave out the rules that name nothing on the model, or come too late: they would be errors in a recipe."""
    found = source.trace(recipe)
    taken: set[str] = set()
    idle = []
    for number, (rule, match) in enumerate(found.matches):
        if not rule.own:
            break
        if not match.in_layers or match.in_layers <= taken:
            idle.append(number)
        taken |= match.matched
    rules = tuple(rule for number, rule in enumerate(parts.rules) if number not in idle)
    notes = tuple(
        f"{' '.join(map(str, rule.tensors))} → {rule.type} is left out: it decides nothing on this model"
        for number, rule in enumerate(parts.rules)
        if number in idle and not rule.optional
    )
    return replace(parts, rules=rules, notes=(*parts.notes, *notes))


def _load(parts: Parts, registry: Registry) -> Recipe | None:
    """Load the recipe; return None if a package that it requires is missing."""
    try:
        return load_part(parts, registry=registry)
    except RecipeError:
        installed = {plugin.distribution for plugin in registry.plugins}
        if set(parts.requires) <= installed:
            raise
        return None


def _imported(parts: Parts) -> Imported:
    comments = wrapped((f"Imported from {parts.origin}.", *parts.notes))
    text, _ = write_recipe(parts, comments)
    return Imported(text=text, notes=parts.notes, rules=len(parts.rules))
