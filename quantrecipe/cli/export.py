"""quantrecipe export: what a recipe does to a model, said in another program's language."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.named_recipes import load_recipes, settings_option
from quantrecipe.cli.options.paths import FILE, RECIPE, file_option
from quantrecipe.cli.options.shared import another_model_option, force_option, write_option
from quantrecipe.cli.output_files import check_output, write_text
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.exchange.scripts.call import Dialect
    from quantrecipe.exchange.to_commands.exported import Exported
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["command"]

# Languages whose texts have paths in them.
_COMMANDS = ("llama-quantize", "ik_llama.cpp")
_LANGUAGES = ("llama-quantize", "ik_llama.cpp", "tensor-type-file", "custom-q", "tool-suite")


@subcommand(
    "export",
    "quantrecipe export recipes/code-model.yaml --model model-BF16.gguf --to llama-quantize",
    "quantrecipe export mix.yaml --model shapes/qwen3-14b --to ik_llama.cpp",
    "quantrecipe export mix.yaml --model shapes/deepseek-v3.1 --to tool-suite -o mix.recipe",
)
@click.argument("recipe", type=RECIPE)
@click.option(
    "--model",
    "model_path",
    type=FILE,
    required=True,
    help="The model that it is for: other programs name tensors, not roles.",
)
@click.option("--to", "language", type=click.Choice(_LANGUAGES), required=True, help="The language.")
@file_option("--imatrix", help="Importance matrix, instead of the recipe's.")
@another_model_option
@file_option("--sensitivity", help="What each type costs, for rules with `choose`; estimated without.")
@click.option(
    "--shell",
    type=click.Choice(["sh", "cmd", "powershell"]),
    default="sh",
    help="Whose quotes a command has. [default: sh]",
)
@settings_option
@write_option
@force_option
@pass_context
def command(
    ctx: Context,
    recipe: str,
    model_path: Path,
    language: str,
    imatrix: Path | None,
    another_model: bool,
    sensitivity: Path | None,
    shell: Dialect,
    settings: Mapping[str, str],
    output: Path | None,
    force: bool,
) -> None:
    """Say in another program's language what RECIPE does to a model: every tensor gets the same type.

    What that program can't be told is an error that names the tensors; what it may do otherwise is a warning.
    """
    from dataclasses import replace

    from quantrecipe.model.open_model import open_model

    if shell != "sh" and language not in _COMMANDS:
        raise click.UsageError("--shell is for commands: --to llama-quantize and --to ik_llama.cpp.")
    check_output(output, force=force)
    registry = ctx.load_registry()
    inputs = PlanInputs(
        registry=registry,
        another_model=another_model,
        sensitivity=sensitivity,
        allow_requantize=True,
        provenance=False,
    )
    (loaded,) = load_recipes(ctx, [recipe], registry, settings)
    if imatrix is not None:
        loaded = replace(loaded, importance=replace(loaded.importance, file=imatrix))
    model = open_model(model_path, registry=registry)
    exported = _export(language, inputs.plan(loaded, model), loaded, registry, shell)
    for note in exported.notes:
        print_warning(ctx.err, note)
    file = loaded.importance.file
    paths = [*([model_path] if model.container != "shapes" else []), *([file] if file is not None else [])]
    if language in _COMMANDS and any(not path.is_absolute() for path in paths):
        print_warning(ctx.err, f"its paths start from this folder, so run it here: {Path.cwd()}")
    if output is None:
        click.echo(exported.text, nl=False)
    else:
        write_text(output, exported.text, force=force)
        ctx.console.print(printable(str(output)))


def _export(language: str, plan: Plan, recipe: Recipe, registry: Registry, shell: Dialect) -> Exported:
    from quantrecipe.exchange.to_commands import ik_llama, llama_quantize

    match language:
        case "llama-quantize":
            return llama_quantize.to_llama_quantize(plan, recipe, registry, shell=shell)
        case "tensor-type-file":
            return llama_quantize.to_tensor_type_file(plan, recipe, registry)
        case "ik_llama.cpp":
            return ik_llama.to_ik(plan, recipe, shell=shell)
        case "custom-q":
            return ik_llama.to_custom_q(plan, recipe)
    return ik_llama.to_tool_suite(plan, recipe)
