"""quantrecipe init: a first recipe for a model, to be changed into what one wants."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_note, printable
from quantrecipe.cli.named_recipes import load_recipes
from quantrecipe.cli.options.paths import MODEL, RECIPE, file_option
from quantrecipe.cli.options.shared import arch_option, force_option
from quantrecipe.cli.output_files import check_output, model_stem, write_text
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import Problem

__all__ = ["command"]

_SCHEMA = "quantrecipe.schema.json"


@subcommand(
    "init",
    "quantrecipe init examples/tiny-code",
    "quantrecipe init model-BF16.gguf --extends Q3_K_M -o recipes/mine.yaml",
    "quantrecipe init shapes/qwen3-30b-a3b -o -",
)
@click.argument("model", type=MODEL)
@click.option(
    "--extends",
    "base",
    type=RECIPE,
    default="llama.cpp/Q4_K_M",
    show_default=True,
    help="The recipe to start from: a name of `quantrecipe recipes`, or a file.",
)
@file_option(
    "-o", "--output", help="Where to write; - is the standard output. [default: MODEL.yaml in this folder]"
)
@click.option("--no-schema", is_flag=True, help=f"Write no {_SCHEMA} beside it.")
@arch_option
@force_option
@pass_context
def command(
    ctx: Context,
    model: Path,
    base: str,
    output: Path | None,
    no_schema: bool,
    arch: str | None,
    force: bool,
) -> None:
    """Write a first recipe for MODEL: a base, and a rule for each kind of tensor that is worth a thought.

    What MODEL has, and what each kind takes in the base, stands above the rules. All rules but one are comments: remove
    the # of those that you want. The schema beside the recipe lets editors complete and check what you type.
    """
    from quantrecipe.cli.init.first_recipe import first_recipe
    from quantrecipe.model.not_a_model import require_model
    from quantrecipe.model.open_model import open_model

    registry = ctx.load_registry()
    path = output or Path(f"{model_stem(model)}.yaml")
    on_stdout = str(path) == "-"
    if not on_stdout:
        check_output(path, force=force)
    (recipe,) = load_recipes(ctx, [base], registry, {})
    opened = open_model(model, arch=arch, registry=registry)
    require_model(opened)
    text = first_recipe(
        opened, recipe, registry, extends=_reference(base, path), schema=None if no_schema else _SCHEMA
    )
    if on_stdout:
        click.echo(text, nl=False)
        return
    write_text(path, text, force=force)
    ctx.console.print(f"{printable(str(path))} is written. Next:", style="bold", soft_wrap=True)
    if not no_schema:
        _write_schema(ctx, path.parent / _SCHEMA)
    named = shlex.quote(str(path))
    for line in (f"check {named}", f"plan {named} {shlex.quote(str(model))}"):
        ctx.console.print(printable(f"  quantrecipe {line}"), soft_wrap=True)


def _write_schema(ctx: Context, path: Path) -> None:
    """The schema, unless there is one: it may be of a newer version, and `schema` brings it up to date."""
    from quantrecipe.cli.schema import schema_of
    from quantrecipe.recipe.schema import schema_text

    if path.exists():
        print_note(
            ctx.err,
            Problem(
                what=f"{path} is there already, and stays as it is",
                remedy=f"`quantrecipe schema -o {shlex.quote(str(path))} --force` brings it up to date",
            ),
        )
        return
    write_text(path, schema_text(schema_of(ctx.load_registry())), force=False)


def _reference(base: str, path: Path) -> str:
    """What `extends` says: a name as it is, a file as it is called from the recipe's folder."""
    if not Path(base).is_file():
        return base
    folder = Path() if str(path) == "-" else path.parent
    return Path(os.path.relpath(base, folder)).as_posix()
