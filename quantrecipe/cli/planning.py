"""What `plan` and `apply` have in common: their options, and the way from a command line to a Plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantrecipe.cli.context import Context

if TYPE_CHECKING:
    from quantrecipe.plan.plan import Plan
    from quantrecipe.registry import Registry

__all__ = ["PlanOptions", "build_plan", "plan_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What a plan depends on, besides recipe and model."""

    imatrix: Path | None
    arch: str | None
    pre: str | None
    strict: bool
    allow_requantize: bool
    provenance: bool


def plan_options(command: F) -> F:
    """Add the arguments RECIPE and MODEL, and the options of PlanOptions."""
    decorators = (
        click.argument("recipe"),
        click.argument("model", type=click.Path(path_type=Path)),
        click.option(
            "--imatrix",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Importance matrix, GGUF or .dat; instead of the recipe's.",
        ),
        click.option("--strict", is_flag=True, help="Refuse every fallback to another type."),
        click.option(
            "--allow-requantize", is_flag=True, help="Let sources that are quantized be quantized again."
        ),
        click.option(
            "--arch", metavar="NAME", help="Architecture of a safetensors file without config.json."
        ),
        click.option(
            "--pre",
            metavar="NAME",
            help="Pre-tokenizer (tokenizer.ggml.pre), where its rules aren't recognised.",
        ),
        click.option(
            "--no-provenance",
            "provenance",
            flag_value=False,
            default=True,
            help="Don't record recipe and hashes in the file.",
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def build_plan(
    ctx: Context, recipe_name: str, model_path: Path, options: PlanOptions
) -> tuple[Plan, Registry]:
    """Load everything and resolve it; QuantrecipeError says what is wrong with any of it."""
    from quantrecipe.importance import read_importance
    from quantrecipe.model.open import open_model
    from quantrecipe.plan.make import make_plan
    from quantrecipe.recipe.load import load_recipe

    registry = ctx.load_registry()
    recipe = load_recipe(recipe_name, registry=registry)
    model = open_model(model_path, arch=options.arch, pre=options.pre, registry=registry)
    matrix = options.imatrix or recipe.importance.file
    plan = make_plan(
        recipe,
        model,
        registry=registry,
        importance=read_importance(matrix) if matrix is not None else None,
        strict=options.strict,
        allow_requantize=options.allow_requantize,
        provenance=options.provenance,
    )
    return plan, registry
