"""Which shipped recipe a mix is, or comes nearest to: llama.cpp's presets and the pure ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.source import Planned, Source
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP, Recipe
from quantrecipe.registry import Registry

__all__ = ["Guess", "guesses", "labelled"]

_FAMILIES = ("llama.cpp", "pure")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A shipped recipe, and what it gives the tensors of a model.

    ref:        its name, to be extended
    importance: True where it was planned with an importance matrix
    planned:    by tensor name
    wrong:      how many tensors have another type
    """

    ref: str
    recipe: Recipe
    importance: bool
    planned: Mapping[str, Planned]
    wrong: int


def guesses(types: Mapping[str, str], source: Source, label: str | None) -> list[Guess]:
    """Return every shipped recipe that can be planned for the model, the one with the fewest wrong tensors first.

    Where the source has no importance matrix, the presets that ask for one are tried with one, too: a file need not say
    that it was made with one.

    label: what the file says it mostly is. Where the recipe of this name is right, it is the only one
    """
    if (named := labelled(types, source, label)) and not named.wrong:
        return [named]
    found = []
    for ref, recipe in _mixtures(source.registry):
        ways = [source]
        if not source.importance and _asks(recipe):
            ways.append(replace(source, importance=True))
        found += [guess for way in ways if (guess := _guess(ref, recipe, types, way))]

    def order(guess: Guess) -> tuple[int, bool, bool, bool, int, str]:
        same = guess.recipe.file_type == label
        pure = guess.ref.startswith("pure/")
        return guess.wrong, not same, guess.importance, pure, len(guess.recipe.rules), guess.ref

    return sorted(found, key=order)


def labelled(types: Mapping[str, str], source: Source, label: str | None) -> Guess | None:
    """Return the preset of llama.cpp that has this name; None if there is none, or it can't be planned."""
    ref = f"{_FAMILIES[0]}/{label}"
    try:
        recipe = load_recipe(ref, registry=source.registry)
    except RecipeError:
        return None
    return _guess(ref, recipe, types, source)


def _guess(ref: str, recipe: Recipe, types: Mapping[str, str], source: Source) -> Guess | None:
    planned = source.planned(recipe)
    if planned is None:
        return None
    wrong = sum(planned[name].type != type_ for name, type_ in types.items())
    return Guess(ref=ref, recipe=recipe, importance=source.importance, planned=planned, wrong=wrong)


def _mixtures(registry: Registry) -> Iterator[tuple[str, Recipe]]:
    """Yield the shipped recipes that decide everything, by the names that extend them; of equal ones, one."""
    seen: set[str] = set()
    for prefix, folder in sorted(registry.recipe_folders.items()):
        family = prefix.partition("@")[0]
        if family not in _FAMILIES:
            continue
        for path in sorted(folder.glob("*.yaml"), key=lambda path: (-len(path.stem), path.stem)):
            recipe = load_recipe(f"{family}/{path.stem}", registry=registry)
            if recipe.default not in (None, KEEP) and recipe.digest not in seen:
                seen.add(recipe.digest)
                yield f"{family}/{path.stem}", recipe


def _asks(recipe: Recipe) -> bool:
    """Say whether the types depend on whether there is an importance matrix."""
    return any(rule.when is not None and "has_importance" in rule.when.names for rule in recipe.rules)
