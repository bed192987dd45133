"""`--set NAME=VALUE`: the variables of recipes, for every command that loads one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["load_recipes", "settings_of_each", "settings_option"]

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
    names: Sequence[str], registry: Registry, settings: Mapping[str, str] | None = None
) -> list[Recipe]:
    """The recipes of these names. Of several, each takes the settings of variables that it has.

    RecipeError where a setting is for none of them.
    """
    from quantrecipe.recipe.load import load_recipe

    chosen = settings_of_each(names, registry, settings or {})
    return [load_recipe(name, registry=registry, settings=chosen[name]) for name in names]


def settings_of_each(
    names: Sequence[str], registry: Registry, settings: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    """By recipe, the settings of variables that it has; a single one gets all. RecipeError where one is for none.

    A recipe that can't be loaded gets none here: whoever loads it says what is wrong.
    """
    if not settings or len(names) == 1:
        return dict.fromkeys(names, settings)
    from quantrecipe.errors import QuantrecipeError, RecipeError
    from quantrecipe.recipe.declarations import unknown_settings
    from quantrecipe.recipe.load import load_recipe

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
