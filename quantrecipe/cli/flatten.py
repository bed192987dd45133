"""quantrecipe flatten: a recipe with all that it extends, each rule with its origin."""

from __future__ import annotations

from collections.abc import Mapping

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.named_recipes import load_recipes, settings_option
from quantrecipe.cli.options.paths import RECIPE
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand

__all__ = ["command"]


@subcommand(
    "flatten",
    "quantrecipe flatten recipes/code-model.yaml",
    "quantrecipe flatten recipes/mine.yaml --set experts=IQ3_S > flat.yaml",
)
@click.argument("recipe", type=RECIPE)
@settings_option
@json_option
@pass_context
def command(ctx: Context, recipe: str, settings: Mapping[str, str], as_json: bool) -> None:
    """Print RECIPE as one file: all that it extends merged in, variables filled in, each rule with its origin.

    RECIPE is a path, or a name as in extends: llama.cpp/Q4_K_M. What is printed is a recipe by itself, which plans as
    RECIPE does.
    """
    (loaded,) = load_recipes(ctx, [recipe], ctx.load_registry(), settings)
    from quantrecipe.recipe.writing.flatten import flat_recipe, flat_text

    if as_json:
        ctx.print_json(flat_recipe(loaded))
        return
    text = flat_text(loaded)
    if not ctx.console.color_system:
        click.echo(text, nl=False)
        return
    from rich.text import Text

    for line in text.splitlines():
        ctx.console.print(Text(line, "dim" if line.lstrip().startswith("#") else ""))
