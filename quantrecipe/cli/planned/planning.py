"""What `plan` and `apply` have in common: their options, and the way from a command line to Plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.named_recipes import expand_names, load_recipes, settings_option
from quantrecipe.cli.options.amounts import FileSize, count_option
from quantrecipe.cli.options.limits import Running, limits_text, running_options
from quantrecipe.cli.options.paths import file_option
from quantrecipe.cli.options.shared import (
    another_model_option,
    arch_option,
    converter_option,
    part_option,
    pickle_option,
    pre_option,
    requantize_option,
    statistics_option,
    strict_option,
    together,
)
from quantrecipe.cli.planned.inputs import PlanInputs

if TYPE_CHECKING:
    from quantrecipe.model.model import Model
    from quantrecipe.plan.layout import SplitLimits
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.budget import Budget
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = [
    "PlanOptions",
    "Planned",
    "build_plans",
    "load_planned",
    "locked_option",
    "plan_document",
    "plan_document_of",
    "plan_options",
    "print_told",
    "require_locked",
    "warn_of_matrices",
    "warn_of_running",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What a plan depends on, besides recipe and model."""

    imatrix: Path | None
    another_model: bool
    settings: Mapping[str, str]
    budget: Budget | None
    running: Running | None
    sensitivity: Path | None
    statistics: Path | None
    arch: str | None
    pre: str | None
    part: str
    allow_pickle: bool
    converter: Path | None
    strict: bool
    allow_requantize: bool
    provenance: bool
    split_max_size: int | None
    split_max_tensors: int | None
    keep_split: bool
    assume_imatrix: bool = False


plan_options = together(
    file_option("--imatrix", help="Importance matrix, GGUF or .dat; instead of the recipe's."),
    another_model_option,
    settings_option,
    running_options,
    file_option(
        "--sensitivity",
        help="What types cost each tensor, as `quantrecipe sensitivity` found it; what `choose` goes by.",
    ),
    statistics_option,
    strict_option,
    requantize_option,
    arch_option,
    pre_option,
    part_option,
    pickle_option,
    converter_option,
    click.option(
        "--split-max-size",
        type=FileSize(),
        metavar="SIZE",
        help="Split into files of at most SIZE: 48G, 500M (thousands); 4.5GiB.",
    ),
    count_option("--split-max-tensors", help="Split into files of at most N tensors."),
    click.option("--keep-split", is_flag=True, help="Split as the model is."),
    click.option(
        "--no-provenance",
        "provenance",
        flag_value=False,
        default=True,
        help="Don't record recipe and hashes in the file.",
    ),
)
"""Adds the options of PlanOptions."""


locked_option = file_option(
    "--locked", help="Refuse any plan but the one that `quantrecipe lock` froze, and say what differs."
)


def build_plans(
    ctx: Context, recipes: Sequence[str], model_path: Path, options: PlanOptions, *, globs: bool = False
) -> tuple[list[Plan], Registry]:
    """Load everything and resolve it; QuantrecipeError says what is wrong with any of it.

    `globs` lets one name stand for several shipped recipes: llama.cpp/Q4_*.
    """
    planned = load_planned(ctx, recipes, model_path, options, globs=globs)
    return [planned.plan(it) for it in planned.recipes], planned.inputs.registry


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What plans are made of: recipes within their budget, the model, and all that options say."""

    inputs: PlanInputs
    recipes: Sequence[Recipe]
    model: Model
    split: SplitLimits | None

    def plan(self, recipe: Recipe) -> Plan:
        """The plan of one of the recipes, or of what was made of one. QuantrecipeError says what is wrong."""
        return self.inputs.plan(recipe, self.model, self.split)


def load_planned(
    ctx: Context, recipes: Sequence[str], model_path: Path, options: PlanOptions, *, globs: bool = False
) -> Planned:
    """Load everything that plans are made of; see `build_plans`."""
    from quantrecipe.model.open_model import open_model

    if options.assume_imatrix and options.imatrix is not None:
        raise click.UsageError("--imatrix and --assume-imatrix exclude each other.")
    inputs = PlanInputs(
        registry=ctx.load_registry(),
        imatrix=options.imatrix,
        another_model=options.another_model,
        assume_imatrix=options.assume_imatrix,
        sensitivity=options.sensitivity,
        statistics=options.statistics,
        strict=options.strict,
        allow_requantize=options.allow_requantize,
        provenance=options.provenance,
    )
    names = expand_names(ctx, recipes, inputs.registry) if globs else recipes
    loaded = load_recipes(ctx, names, inputs.registry, options.settings)
    model = open_model(
        model_path,
        arch=options.arch,
        part=options.part,
        pre=options.pre,
        allow_pickle=options.allow_pickle,
        converter=options.converter,
        registry=inputs.registry,
    )
    split = _limits(options, model)
    within = [_within(it, options.budget) for it in loaded]
    return Planned(inputs=inputs, recipes=within, model=model, split=split)


def require_locked(locked: Path | None, plans: Sequence[Plan], registry: Registry) -> None:
    """PlanError where the plan isn't the locked one."""
    if locked is None:
        return
    from quantrecipe.plan.review.lock import require_lock
    from quantrecipe.plan.review.lock_file import read_lock

    if len(plans) > 1:
        raise click.UsageError("--locked is for one recipe: run several, one after the other.")
    require_lock(read_lock(locked), plans[0], registry, file=str(locked))


def print_told(ctx: Context, plan: Plan, options: PlanOptions) -> None:
    """What was understood of the limits, and what the planned file takes where it is to run."""
    if options.assume_imatrix:
        ctx.console.print("planned as if there were an importance matrix")
    from quantrecipe.plan.statistics import encoder_lines

    for line in encoder_lines(plan):
        ctx.console.print(line)
    limits = options.budget
    if limits is not None and limits.vram is not None:  # told below
        limits = replace(limits, vram=None, ram=None)
    if told := limits_text(limits, options.split_max_size):
        ctx.say(f"understood: {told}")
    if options.running is not None:
        from quantrecipe.cli.planned.running_table import render_runs

        ctx.console.print(render_runs(plan, options.running))


def warn_of_matrices(ctx: Context, plans: Sequence[Plan]) -> None:
    """Warn of importance matrices that don't say which model they are of, so that nobody could compare it."""
    matrices = {it.path: it for plan in plans if (it := plan.importance) is not None}
    for matrix in matrices.values():
        if not matrix.fingerprint:
            print_warning(ctx.err, f"{matrix.label} doesn't say which model it is of")


def warn_of_running(ctx: Context, plans: Sequence[Plan], options: PlanOptions) -> None:
    """What commands say that don't show a plan: which of the files won't fit where they are to run."""
    if options.running is None:
        return
    from quantrecipe.cli.planned.running_table import warnings_of

    for plan in plans:
        for warning in warnings_of(plan, options.running):
            print_warning(ctx.err, f"{plan.recipe}: {warning}")


def plan_document(plan: Plan, options: PlanOptions) -> dict[str, Any]:
    """The plan as plain data; it has `runs` where somebody asked how the file runs."""
    document = plan_document_of(plan)
    if options.running is not None:
        from quantrecipe.cli.planned.running_table import runs_document

        document["runs"] = runs_document(plan, options.running)
    return document


def plan_document_of(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, as it depends on nothing else."""
    from quantrecipe.plan.group import part_totals

    document = plan.to_json()
    document["tables"], document["without_tables"] = (total.to_json() for total in part_totals(plan))
    return document


def _within(recipe: Recipe, budget: Budget | None) -> Recipe:
    """The recipe, its types to be chosen within this budget.

    Where nothing is left to choose, memory is no limit: what the file takes of it is shown, with a warning where it is
    too much (cli/planned/running_table.py).
    """
    if budget is None:
        return recipe
    if not any(rule.choose for rule in recipe.rules):
        budget = replace(budget, vram=None, ram=budget.ram if budget.vram is None else None)
    ties = recipe.budget.ties if recipe.budget is not None else ()
    return replace(recipe, budget=replace(budget, ties=ties))


def _limits(options: PlanOptions, model: Model) -> SplitLimits | None:
    from quantrecipe.plan.layout import SplitLimits

    if options.keep_split and (options.split_max_size or options.split_max_tensors):
        raise click.UsageError("--keep-split and --split-max-… exclude each other.")
    if options.keep_split:
        numbers = {path: number for number, path in enumerate(model.files)}
        shards = {
            name: numbers[source.extents[0].path] if source.extents else 0
            for name, source in model.sources.items()
        }
        return SplitLimits(shards=shards) if len(set(shards.values())) > 1 else None
    if options.split_max_size or options.split_max_tensors:
        return SplitLimits(max_bytes=options.split_max_size, max_tensors=options.split_max_tensors)
    return None
