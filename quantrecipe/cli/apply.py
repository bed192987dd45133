"""quantrecipe apply: quantize a model as a recipe says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.help import SETTINGS, examples
from quantrecipe.cli.planning import PlanOptions, build_plan, plan_options

if TYPE_CHECKING:
    from quantrecipe.output.apply import Result
    from quantrecipe.plan.plan import Plan

__all__ = ["command", "default_name"]

_SOURCE_TYPE = re.compile(r"[-_.](bf16|f16|fp16|f32|fp32)$", re.IGNORECASE)
_UNUSUAL = re.compile(r"[^\w.+-]+")


@click.command(
    "apply",
    context_settings=SETTINGS,
    epilog=examples(
        "quantrecipe apply recipes/code-model.yaml examples/tiny-code/model.safetensors",
        "quantrecipe apply llama.cpp/Q4_K_M model-BF16.gguf --imatrix imatrix.gguf -o model-Q4_K_M.gguf",
        "quantrecipe apply recipes/code-model.yaml model.safetensors --dry-run",
    ),
)
@plan_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write. [default: MODEL-RECIPE.gguf in the current folder]",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads that quantize. [default: all cores]"
)
@click.option(
    "--nan",
    type=click.Choice(["error", "keep"]),
    default="error",
    show_default=True,
    help="NaN and Inf among the weights: stop, or go on (quantized types store 0 there).",
)
@click.option("--dry-run", is_flag=True, help="Show the plan, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@pass_context
def command(
    ctx: Context,
    /,
    recipe: str,
    model: Path,
    output: Path | None,
    force: bool,
    threads: int | None,
    nan: Any,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Quantize MODEL to a GGUF file as RECIPE says.

    RECIPE is a file, or the name of a recipe that quantrecipe or a plugin ships (llama.cpp/Q4_K_M). MODEL is a
    Hugging Face folder, a .safetensors file in one, or a GGUF. The file appears under its name when it is whole;
    an existing one is kept unless --force says otherwise.
    """
    from quantrecipe.cli.plan_table import render_plan, render_summary, render_warnings
    from quantrecipe.cli.progress import ProgressBar
    from quantrecipe.output.apply import apply_plan

    plan, registry = build_plan(ctx, recipe, model, PlanOptions(**options))
    path = output or Path(default_name(model, plan.recipe))
    if dry_run:
        if as_json:
            click.echo(json.dumps(plan.to_json() | {"output": str(path)}, indent=2))
        else:
            ctx.console.print(render_plan(plan))
            ctx.console.print(f"would write {path}")
        return
    if plan.warnings:
        ctx.err.print(render_warnings(plan))
    with ProgressBar(ctx.err) as progress:
        result = apply_plan(
            plan, path, registry=registry, threads=threads, force=force, nan=nan, progress=progress
        )
    if as_json:
        click.echo(json.dumps(_plain(plan, result), indent=2))
    else:
        ctx.console.print(render_summary(plan, result))


def default_name(model: Path, recipe: str) -> str:
    """examples/tiny-code/model.safetensors, code-model → tiny-code-code-model.gguf."""
    path = model.resolve()
    if path.is_dir():
        stem = path.name
    elif path.name.startswith("model") and ".safetensors" in path.name:  # the folder's name says more
        stem = path.parent.name
    else:
        stem = re.sub(r"-00001-of-\d+$", "", path.stem)
    stem = _SOURCE_TYPE.sub("", stem) or "model"
    return f"{stem}-{_UNUSUAL.sub('-', recipe.rsplit('/', 1)[-1])}.gguf"


def _plain(plan: Plan, result: Result) -> dict[str, Any]:
    from quantrecipe.plan.group import totals

    return {
        "output": str(result.path),
        "nbytes": result.nbytes,
        "weights": plan.size,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "seconds": round(result.seconds, 3),
        "compile_seconds": round(result.compile_seconds, 3),
        "threads": result.threads,
        "plan_digest": plan.digest,
        "warnings": list(plan.warnings),
        "nonfinite": result.nonfinite,
        "types": [total.to_json() for total in totals(plan.assignments)],
    }
