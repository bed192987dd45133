"""What every command that loads recipes shares: their names on the command line, and `--set NAME=VALUE`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantrecipe.cli.errors import print_note

if TYPE_CHECKING:
    from quantrecipe.cli.context import Context
    from quantrecipe.errors import Problem
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["expand_names", "load_recipes", "print_notes", "settings_of_each", "settings_option"]

F = TypeVar("F", bound=Callable[..., Any])


def settings_option(command: F) -> F:
    """Add `--set`, which gives the command `settings`: values by the names of variables."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_mapping,
        help="Set a variable of the recipe; may be given several times.",
    )(command)


def load_recipes(
    ctx: Context, names: Sequence[str], registry: Registry, settings: Mapping[str, str] | None = None
) -> list[Recipe]:
    """The recipes of these names; what short names were taken for is printed. Of several recipes, each takes the
    settings of variables that it has.

    RecipeError where a setting is for none of them.
    """
    from quantrecipe.recipe.load import load_recipe

    chosen = settings_of_each(names, registry, settings or {})
    recipes = [load_recipe(name, registry=registry, settings=chosen[name]) for name in names]
    print_notes(ctx, *recipes)
    return recipes


def print_notes(ctx: Context, *recipes: Recipe) -> None:
    """Prints what the names of recipes, and names in them, were taken for, each once."""
    for note in dict.fromkeys(note for recipe in recipes for note in recipe.notes):
        print_note(ctx.err, note)


def expand_names(ctx: Context, names: Sequence[str], registry: Registry) -> list[str]:
    """The names, with those of shipped recipes in place of globs (`llama.cpp/Q4_*`), each once.

    What a glob stands for is printed. A recipe that is another's second name (Q4_K, Q4_K_M) is left out, and so are
    parts of recipes. RecipeError where a glob matches nothing.
    """
    from quantrecipe.errors import Problem
    from quantrecipe.recipe.shipped_recipes import is_glob

    found: dict[str, None] = {}
    for name in names:
        if not is_glob(name) or os.path.lexists(name):
            found[name] = None
            continue
        chosen, left_out = _matching(name, registry)
        found |= dict.fromkeys(chosen)
        print_note(ctx.err, Problem(what=f"{name!r} is {', '.join(chosen)}"))
        for note in left_out:
            print_note(ctx.err, note)
    return list(found)


def _matching(glob: str, registry: Registry) -> tuple[list[str], list[Problem]]:
    """The recipes that a glob means, and what is to be said of those that are left out."""
    from quantrecipe.errors import Problem, RecipeError
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.recipe.shipped_recipes import matching

    recipes = {name: load_recipe(name, registry=registry) for name in matching(glob, registry)}
    recipes = {name: recipe for name, recipe in recipes.items() if recipe.stands_alone}
    if not recipes:
        raise RecipeError(
            f"no shipped recipe is called {glob!r}, and no file",
            "`quantrecipe recipes` lists them; a glob needs quotes: 'llama.cpp/Q4_*'",
        )
    # The one that says itself what it does comes before those that only extend it.
    by_meaning: dict[str, str] = {}
    for name in sorted(recipes, key=lambda it: not recipes[it].says_its_default):
        by_meaning.setdefault(recipes[name].digest, name)
    doubles = {name: by_meaning[recipes[name].digest] for name in recipes}
    return (
        [name for name, first in doubles.items() if name == first],
        [
            Problem(what=f"{name} is left out, since {first} is the same")
            for name, first in doubles.items()
            if name != first
        ],
    )


def settings_of_each(
    names: Sequence[str], registry: Registry, settings: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    """By recipe, the settings of variables that it has; a single one gets all. RecipeError where one is for none.

    A recipe that can't be loaded gets none here: whoever loads it says what is wrong.
    """
    if not settings or len(names) == 1:
        return dict.fromkeys(names, settings)
    from quantrecipe.errors import QuantrecipeError, RecipeError
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.recipe.reading.variable_declarations import unknown_settings

    known: dict[str, Collection[str]] = {}
    for name in names:
        try:
            known[name] = load_recipe(name, registry=registry).variables.keys()
        except QuantrecipeError:
            known[name] = ()
    if problems := unknown_settings(settings, [name for variables in known.values() for name in variables]):
        raise RecipeError(problems)
    return {name: {key: it for key, it in settings.items() if key in known[name]} for name in names}


def _mapping(ctx: click.Context, param: click.Parameter, pairs: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip().removeprefix("$")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is no NAME=VALUE", ctx, param)
        if name in found:
            raise click.BadParameter(f"{name} is set twice", ctx, param)
        found[name] = value.strip()
    return found
