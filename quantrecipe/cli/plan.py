"""quantrecipe plan: what a recipe would do to a model, to the byte, from headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.cluster import cluster_option
from quantrecipe.cli.options.paths import MODEL, RECIPE
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.planned.planning import (
    PlanOptions,
    build_plans,
    locked_option,
    plan_document,
    plan_options,
    print_told,
    require_locked,
)
from quantrecipe.cli.planned.speeds import speed_document, speed_text
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.memory.device import Settings

__all__ = ["command"]


@subcommand(
    "plan",
    "quantrecipe plan recipes/code-model.yaml examples/tiny-code",
    "quantrecipe plan llama.cpp/Q4_K_M model-BF16.gguf --imatrix imatrix.gguf --all",
    "quantrecipe plan quantrecipe/chat shapes/qwen3-14b --vram 8 --context 16k",
    "quantrecipe plan recipes/code-model.yaml model.safetensors --json | jq .nbytes",
    "quantrecipe plan Q4_K_M shapes/deepseek-v3.1 --cluster nodes=10,threads=16,price=1.2/h",
)
@click.argument("recipe", type=RECIPE)
@click.argument("model", type=MODEL)
@plan_options
@click.option(
    "--assume-imatrix",
    is_flag=True,
    help="Plan as if there were an importance matrix that covers every layer.",
)
@locked_option
@cluster_option
@click.option("--all", "every_tensor", is_flag=True, help="A line for each tensor.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    recipe: str,
    model: Path,
    locked: Path | None,
    every_tensor: bool,
    cluster: dict[str, Any] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what RECIPE would do to MODEL: the type and size of each tensor, and the rule that decides.

    RECIPE is a file, or the name of a recipe that quantrecipe or a plugin ships (llama.cpp/Q4_K_M). MODEL is a
    Hugging Face folder, a .safetensors file in one, a GGUF, or a shape file. Weights aren't read, and nothing is
    written. With --vram or --context it says what the file takes where it runs, and whether it fits. After
    `quantrecipe speed`, it says how many tokens per second the file gives on this machine. With --cluster it says how
    long these machines would take to make the file.
    """
    wanted = PlanOptions(**options)
    (plan,), registry = build_plans(ctx, [recipe], model, wanted)
    require_locked(locked, [plan], registry)
    if as_json:
        document = plan_document(plan, wanted) | {"speed": speed_document(plan, _settings(wanted))}
        if cluster is not None:
            from quantrecipe.cli.planned.cluster_table import cluster_document

            document["cluster"] = cluster_document(plan, cluster, registry)
        ctx.print_json(document)
        return
    from quantrecipe.cli.planned.plan_table import render_plan

    ctx.console.print(render_plan(plan, every_tensor=every_tensor))
    print_told(ctx, plan, wanted)
    if said := speed_text(plan, _settings(wanted)):
        from quantrecipe.cli.tables import Paragraph

        ctx.console.print(Paragraph(said))
    if cluster is not None:
        from quantrecipe.cli.planned.cluster_table import cluster_lines

        for line in cluster_lines(plan, cluster, registry):
            ctx.say(line)


def _settings(options: PlanOptions) -> Settings | None:
    """How the file is run, where somebody said so."""
    return None if options.running is None else options.running.settings
