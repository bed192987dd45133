"""quantrecipe explain: why a tensor gets its type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.named_recipes import load_recipes, settings_option
from quantrecipe.cli.options.paths import MODEL, RECIPE, file_option
from quantrecipe.cli.options.shared import (
    another_model_option,
    arch_option,
    json_option,
    requantize_option,
    strict_option,
)
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.errors import Problem
    from quantrecipe.plan.plan import Plan

__all__ = ["command"]


@subcommand(
    "explain",
    "quantrecipe explain recipes/code-model.yaml examples/tiny-code blk.2.ffn_down",
    "quantrecipe explain llama.cpp/Q4_K_M shapes/qwen3-14b head attn_v",
    "quantrecipe explain recipes/mine.yaml model.gguf 'blk.*.ffn_*_exps' --all-rules",
)
@click.argument("recipe", type=RECIPE)
@click.argument("model", type=MODEL)
@click.argument("tensors", nargs=-1, required=True, metavar="TENSOR...")
@file_option("--imatrix", help="Importance matrix, GGUF or .dat; instead of the recipe's.")
@another_model_option
@settings_option
@file_option(
    "--sensitivity", help="What each type costs, from quantrecipe sensitivity: for rules with choose."
)
@arch_option
@strict_option
@requantize_option
@click.option("--all-rules", is_flag=True, help="Go on behind the rule that decides.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    recipe: str,
    model: Path,
    tensors: tuple[str, ...],
    imatrix: Path | None,
    another_model: bool,
    settings: Mapping[str, str],
    sensitivity: Path | None,
    arch: str | None,
    strict: bool,
    allow_requantize: bool,
    all_rules: bool,
    as_json: bool,
) -> None:
    """Show why tensors of MODEL get the types that RECIPE gives them: the rules tried, in order, and the outcome.

    TENSOR is a name (blk.3.attn_v), a role (attn_v), a pattern ('ffn_*_exps'), or head. Tensors that fare alike are
    told of together. RECIPE and MODEL are as for quantrecipe plan.
    """
    from quantrecipe.errors import QuantrecipeError
    from quantrecipe.model.open_model import open_model
    from quantrecipe.plan.review.explain import explain
    from quantrecipe.planning import plan_resolved

    inputs = PlanInputs(
        registry=ctx.load_registry(),
        imatrix=imatrix,
        another_model=another_model,
        sensitivity=sensitivity,
        strict=strict,
        allow_requantize=allow_requantize,
    )
    (loaded,) = load_recipes(ctx, [recipe], inputs.registry, settings)
    resolution = inputs.resolve(loaded, open_model(model, arch=arch, registry=inputs.registry))
    plan: Plan | None = None
    problems: tuple[Problem, ...] = ()
    try:
        plan = plan_resolved(resolution, inputs.costs)
    except QuantrecipeError as error:
        problems = error.problems
    explanations = explain(resolution, tensors, plan)
    if as_json:
        ctx.print_json(explanations)
    else:
        from quantrecipe.cli.explain.story import render_explanations

        ctx.console.print(render_explanations(explanations, loaded, all_rules=all_rules))
    for problem in problems:
        print_warning(ctx.err, f"the recipe doesn't plan on this model: {problem}")
