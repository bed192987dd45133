"""quantrecipe report: one page about a plan or a file, with everything that there is to see of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import FILE_OR_RECIPE, file_option
from quantrecipe.cli.options.shared import force_option
from quantrecipe.cli.planned.planning import PlanOptions, load_planned, plan_options
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import EvaluationError, ModelError, OutputError

if TYPE_CHECKING:
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.cli.report.estimates import Estimate
    from quantrecipe.cli.report.evaluations import Evaluated
    from quantrecipe.cli.report.subject import Subject
    from quantrecipe.model.model import Model

__all__ = ["command"]

# What files have, too; every other option of plans is about making one.
_OF_FILES = {"imatrix", "another_model", "sensitivity"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """What the page is about, what that is compared with, and what both are made from.

    path:  of the model, or of the file
    model: for other mixes, before any of its layers is pruned
    runs:  what it takes where it runs, as HTML
    """

    subject: Subject
    other: Subject | None
    model: Model
    path: Path
    inputs: PlanInputs
    runs: str = ""


@subcommand(
    "report",
    "quantrecipe report model-Q4_K_M.gguf",
    "quantrecipe report recipes/code-model.yaml examples/tiny-code -o tiny-code.html",
    "quantrecipe report quantrecipe/chat shapes/qwen3-30b-a3b --base Q4_K_M -o chat.html",
    "quantrecipe report mine.gguf --eval eval.json --sensitivity s.jsonl --imatrix i.gguf",
    "quantrecipe report old.gguf new.gguf -o change.html",
    "quantrecipe report Q4_K_M mine.yaml model-BF16.gguf -o change.html",
)
@click.argument("words", nargs=-1, required=True, type=FILE_OR_RECIPE, metavar="[RECIPE]... MODEL...")
@file_option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    help="Where the page is written; it ends with .html.",
)
@click.option(
    "--base",
    type=FILE_OR_RECIPE,
    metavar="RECIPE",
    help="Compare with what this recipe makes of the same model.",
)
@file_option(
    "--eval",
    "evaluations",
    multiple=True,
    metavar="FILE.json",
    help="What `quantrecipe eval --json` printed, of files of this model; may be given several times.",
)
@plan_options
@click.option(
    "--assume-imatrix",
    is_flag=True,
    help="Plan as if there were an importance matrix that covers every layer.",
)
@force_option
@pass_context
def command(
    ctx: Context,
    /,
    words: tuple[str, ...],
    output: Path,
    base: str | None,
    evaluations: tuple[Path, ...],
    force: bool,
    **options: Any,
) -> None:
    """Write one page (HTML) about a quantized FILE, or about what RECIPE would make of MODEL.

    The page has a map of layers and roles by type, another by expected loss, bytes by role, the file beside
    llama-quantize's mixes, the recipe with what each rule decided, and what is known of evaluations, importance and
    provenance. With two GGUF files, or two recipes before the model, it shows what changes from the first to the
    second. Nothing on it comes from the network, and no script runs on it.
    """
    from quantrecipe.cli.output_files import check_output, write_text
    from quantrecipe.cli.pictures.figure import check_pictures

    recipes, models = _sorted(words)
    if output.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{output} is no name for a page", "end it with .html")
    check_output(output, force=force)
    check_pictures()
    if not recipes:
        _refuse_options_of_plans()
    if base is not None and len(recipes) + len(models) > 2 - (not recipes):
        raise click.UsageError(
            "--base is what one recipe, or one file, is compared with: leave the other one out."
        )
    from quantrecipe.cli.report.evaluations import read_evaluation

    found = [read_evaluation(path) for path in evaluations]
    wanted = PlanOptions(**options)
    pair = (
        _of_recipes(ctx, recipes, models[0], base, wanted)
        if recipes
        else _of_files(ctx, models, base, wanted)
    )
    page = _page(pair, found)
    write_text(output, page, force=force)
    size = -(-len(page.encode()) // 1024)
    ctx.console.print(f"wrote {printable(str(output))} ({size:,} KiB)")


def _sorted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Recipes and models. UsageError where they aren't as the command takes them."""
    from quantrecipe.cli.word_order import is_model

    are = [word.startswith("hf://") or is_model(word) for word in words]
    recipes = [word for word, it in zip(words, are, strict=True) if not it]
    models = [word for word, it in zip(words, are, strict=True) if it]
    if are != sorted(are):
        raise click.UsageError(f"{models[0]} is a model, and {recipes[-1]} is a recipe: recipes stand first.")
    if recipes and not models:
        raise click.UsageError(
            f"{recipes[-1]} is a recipe: name the model behind it. shapes/qwen3-14b is one that ships."
        )
    if len(recipes) > 2 or len(models) > 2 or (recipes and len(models) > 1):
        raise click.UsageError("give one file, two files, or one or two recipes and a model.")
    return recipes, models


def _refuse_options_of_plans() -> None:
    """UsageError for an option that is about making a file, where there is one already."""
    context = click.get_current_context()
    ours = {"words", "output", "base", "evaluations", "force", *_OF_FILES}
    for param in context.command.params:
        given = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if given and param.name not in ours:
            raise click.UsageError(f"{param.opts[0]} is for a recipe and a model: the file is there already.")


def _of_recipes(
    ctx: Context, recipes: Sequence[str], model: str, base: str | None, options: PlanOptions
) -> _Pair:
    """One or two plans on a model."""
    from quantrecipe.cli.named_recipes import load_recipes
    from quantrecipe.cli.report.subject import subject_of_plan
    from quantrecipe.model.open_model import located

    planned = load_planned(ctx, recipes, located(model), options)
    *others, (name, recipe) = list(zip(recipes, planned.recipes, strict=True))
    if base is not None:  # what limits the recipe is no matter of what it is compared with
        others = [(base, load_recipes(ctx, [base], planned.inputs.registry)[0])]
    inputs = planned.inputs
    subject = subject_of_plan(name, recipe, planned.model, inputs, planned.split)
    lenient = replace(inputs, strict=False)
    other = [subject_of_plan(label, it, planned.model, lenient, planned.split) for label, it in others]
    return _Pair(
        subject=subject,
        other=other[0] if other else None,
        model=planned.model,
        path=planned.model.path,
        inputs=inputs,
        runs=_runs(subject, options),
    )


def _runs(subject: Subject, options: PlanOptions) -> str:
    if options.running is None or subject.plan is None:
        return ""
    from quantrecipe.cli.planned.running_table import render_runs
    from quantrecipe.cli.tables.markup import html_of

    return html_of(render_runs(subject.plan, options.running), caption="What it takes where it runs")


def _of_files(ctx: Context, models: Sequence[str], base: str | None, options: PlanOptions) -> _Pair:
    """One or two GGUF files; or one, and what a recipe would make of it."""
    from quantrecipe.cli.named_recipes import load_recipes
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.cli.report.subject import subject_of_file, subject_of_plan
    from quantrecipe.model.not_a_model import require_model
    from quantrecipe.model.open_model import located, open_model

    registry = ctx.load_registry()
    inputs = PlanInputs(
        registry=registry,
        imatrix=options.imatrix,
        another_model=options.another_model,
        sensitivity=options.sensitivity,
        allow_requantize=True,
    )
    opened = [open_model(located(word), registry=registry) for word in models]
    for model in opened:
        require_model(model)
        if model.container != "gguf":
            raise ModelError(
                "isn't quantized",
                "name the recipe that is to make something of it before it, or give a GGUF",
                file=model.path,
            )
    *others, subject = [
        subject_of_file(word, model, inputs) for word, model in zip(models, opened, strict=True)
    ]
    if others and not others[0].side.tensors.keys() & subject.side.tensors.keys():
        raise ModelError(
            f"has no tensor in common with {models[0]}", "compare files of one model", file=models[1]
        )
    if base is not None:
        (recipe,) = load_recipes(ctx, [base], registry)
        others = [subject_of_plan(base, recipe, opened[0], inputs)]
    return _Pair(
        subject=subject,
        other=others[0] if others else None,
        model=opened[-1],
        path=opened[-1].path,
        inputs=inputs,
    )


def _page(pair: _Pair, found: Sequence[Evaluated]) -> str:
    from quantrecipe.cli.report.estimates import best_mixes, estimate_of, stock_mixes
    from quantrecipe.cli.report.evaluations import require_same_model
    from quantrecipe.cli.report.page import Report, report_html
    from quantrecipe.cli.report.subject import with_folded_roles
    from quantrecipe.plan.review.diff import diff_sides

    subject, other, registry, costs = pair.subject, pair.other, pair.inputs.registry, pair.inputs.costs
    require_same_model(found, subject.side)
    _require_own(found, subject, other)
    estimate = estimate_of(subject, registry, costs)
    compared: tuple[Subject, Estimate] | None = None
    if other is not None:
        compared = other, estimate_of(other, registry, costs)
    stock = stock_mixes(pair.model, registry, costs)
    quantized = {name for mix in stock for name in mix.quantized}
    return report_html(
        Report(
            subject=subject,
            path=pair.path,
            estimate=estimate,
            stock=stock,
            best=best_mixes(subject, registry, costs, quantized),
            other=compared,
            diff=None
            if other is None
            else diff_sides(
                str(pair.path), with_folded_roles(other.side), with_folded_roles(subject.side), costs
            ),
            found=found,
            runs=pair.runs,
        )
    )


def _require_own(found: Sequence[Evaluated], subject: Subject, other: Subject | None) -> None:
    """EvaluationError where none of the evaluations is of the file that the page is about.

    A plan has no file yet; evaluations of others stand beside it.
    """
    if not found or subject.plan is not None:
        return
    sides = [subject.side, *([other.side] if other is not None else [])]
    if not any(it.of(side) for it in found for side in sides):
        names = ", ".join(one.name for it in found for one in it.candidates[:3])
        raise EvaluationError(
            f"evaluates {names}, and no file of {subject.side.nbytes:,} bytes, as {subject.side.label} has",
            "evaluate this file, too: `quantrecipe eval FILE --reference … --json`",
            file=found[0].path,
        )
