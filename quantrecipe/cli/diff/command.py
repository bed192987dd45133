"""quantrecipe diff: what a change of a recipe does to models, tensor by tensor and to the byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_note
from quantrecipe.cli.named_recipes import settings_option
from quantrecipe.cli.options.paths import RECIPE, file_option
from quantrecipe.cli.options.shared import another_model_option, requantize_option, strict_option
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import QuantrecipeError

if TYPE_CHECKING:
    from quantrecipe.cli.diff.comparison import Comparison
    from quantrecipe.cli.diff.operands import Operand
    from quantrecipe.model.model import Model
    from quantrecipe.plan.review.diff import Costs
    from quantrecipe.plan.review.sides import Side
    from quantrecipe.speed.clock import Pace

__all__ = ["command", "compare"]


@subcommand(
    "diff",
    "quantrecipe diff main:recipes/mine.yaml recipes/mine.yaml --model shapes/qwen3-14b",
    "quantrecipe diff llama.cpp/Q4_K_M recipes/mine.yaml --model model-BF16.gguf --all",
    "quantrecipe diff HEAD~1:r.yaml r.yaml --model a.json --model b.json --format markdown",
    "quantrecipe diff published.gguf recipes/mine.yaml",
    "quantrecipe diff mine.lock recipes/mine.yaml --model model.safetensors --exit-code",
)
@click.argument("old", type=RECIPE)
@click.argument("new", type=RECIPE)
@file_option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="What to plan on; several times for several models. Shape files and shapes/NAME are models, too.",
)
@file_option("--imatrix", help="Importance matrix, GGUF or .dat; instead of the recipes'.")
@another_model_option
@click.option(
    "--assume-imatrix",
    is_flag=True,
    help="Plan as if there were an importance matrix that covers every layer: for models that aren't at hand.",
)
@file_option("--sensitivity", help="What `quantrecipe sensitivity` wrote: adds the estimated error.")
@settings_option
@strict_option
@requantize_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="text for the terminal, markdown for a pull request.",
)
@click.option("--all", "every", is_flag=True, help="Show what doesn't change, too.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there is any difference.")
@pass_context
def command(
    ctx: Context,
    /,
    old: str,
    new: str,
    models: tuple[Path, ...],
    imatrix: Path | None,
    another_model: bool,
    assume_imatrix: bool,
    sensitivity: Path | None,
    settings: Mapping[str, str],
    strict: bool,
    allow_requantize: bool,
    form: str,
    every: bool,
    exit_code: bool,
) -> None:
    """Show what NEW makes of a model that OLD makes otherwise: types, sizes, estimated error, and the rules.

    OLD and NEW are recipes (files, names as in extends, or main:recipes/mine.yaml as git has it), lock files, or
    GGUF files. Weights aren't read. Without --model a GGUF among them is the model. The exit status is 1 if NEW
    can't be planned.
    """
    from quantrecipe.cli.diff.operands import Operand, require_variables

    if imatrix is not None and assume_imatrix:
        raise click.UsageError("--imatrix and --assume-imatrix exclude each other.")
    inputs = PlanInputs(
        registry=ctx.load_registry(),
        imatrix=imatrix,
        another_model=another_model,
        assume_imatrix=assume_imatrix,
        sensitivity=sensitivity,
        strict=strict,
        allow_requantize=allow_requantize,
    )
    costs = inputs.costs  # read here: a file that can't be read is no matter of one side
    pair = Operand(old, inputs, settings), Operand(new, inputs, settings)
    require_variables(*pair)
    comparisons = _comparisons(*pair, models, costs)
    for note in dict.fromkeys(note for operand in pair for note in operand.notes):
        print_note(ctx.err, note)
    _show(ctx, comparisons, old, new, form, every=every)
    failed = any(comparison.new_error is not None for comparison in comparisons)
    if failed or (exit_code and any(comparison.differs for comparison in comparisons)):
        raise click.exceptions.Exit(1)


def _comparisons(
    old: Operand, new: Operand, models: tuple[Path, ...], costs: Costs | None
) -> list[Comparison]:
    from quantrecipe.model.open_model import open_model

    if models:
        registry = old.inputs.registry
        return [compare(old, new, str(path), open_model(path, registry=registry), costs) for path in models]
    gguf = next((operand for operand in (new, old) if operand.is_gguf), None)
    if gguf is not None:  # what it holds is quantized already, and only planned on
        inputs = replace(old.inputs, allow_requantize=True)
        old, new = (replace(operand, inputs=inputs) for operand in (old, new))
        return [compare(old, new, gguf.text, gguf.model, costs)]
    if old.is_recipe or new.is_recipe:
        raise click.UsageError(
            "name a model with --model: a recipe says nothing without one. shapes/qwen3-14b is one that ships."
        )
    return [compare(old, new, new.text, None, costs)]


def compare(
    old: Operand, new: Operand, name: str, model: Model | None, costs: Costs | None = None
) -> Comparison:
    """Both sides on one model; what keeps one from being planned is part of the answer."""
    from quantrecipe.cli.diff.comparison import Comparison
    from quantrecipe.plan.review.diff import diff_sides

    before, old_error = _side(old, model)
    after, new_error = _side(new, model)
    if before is None or after is None:
        return Comparison(model=name, old_error=old_error, new_error=new_error)
    paces = _pace(before, model), _pace(after, model)
    return Comparison(model=name, diff=diff_sides(name, before, after, costs), paces=paces)


def _pace(side: Side, model: Model | None) -> Pace | None:
    """How fast a side is on this machine, where the model and its types were measured."""
    if model is None:
        return None
    from quantrecipe.speed.here import pace_here, speeds_here

    written = replace(model, tensors=tuple(fate.tensor for fate in side.tensors.values()))
    mix = [(fate.tensor, fate.nbytes, fate.type) for fate in side.tensors.values()]
    return pace_here(written, mix, speeds_here(model))


def _side(operand: Operand, model: Model | None) -> tuple[Side | None, QuantrecipeError | None]:
    try:
        return operand.side(model), None
    except QuantrecipeError as error:
        return None, error


def _show(ctx: Context, comparisons: list[Comparison], old: str, new: str, form: str, *, every: bool) -> None:
    if form == "json":
        document = {
            "old": old,
            "new": new,
            "differs": any(comparison.differs for comparison in comparisons),
            "models": comparisons,
        }
        ctx.print_json(document)
    elif form == "markdown":
        from quantrecipe.cli.diff.markdown import diff_markdown

        click.echo(diff_markdown(comparisons, old, new, every=every), nl=False)
    else:
        from quantrecipe.cli.diff.terminal import render_diff

        ctx.console.print(render_diff(comparisons, old, new, every=every))
