"""`--set NAME=VALUE`: the variables of recipes, for every command that loads one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["load_recipes", "settings_option"]

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
    from quantrecipe.errors import RecipeError
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.recipe.declarations import unknown_settings

    settings = settings or {}
    if not settings or len(names) == 1:
        return [load_recipe(name, registry=registry, settings=settings) for name in names]
    loaded = [load_recipe(name, registry=registry) for name in names]
    known = [name for recipe in loaded for name in recipe.variables]
    if problems := unknown_settings(settings, known):
        raise RecipeError(problems)
    chosen = [{name: it for name, it in settings.items() if name in recipe.variables} for recipe in loaded]
    return [
        load_recipe(name, registry=registry, settings=own) if own else recipe
        for name, recipe, own in zip(names, loaded, chosen, strict=True)
    ]


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
