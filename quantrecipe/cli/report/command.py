"""quantrecipe report: one page about a plan or a file, with everything that there is to see of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import FILE_OR_RECIPE, file_option
from quantrecipe.cli.options.shared import force_option
from quantrecipe.cli.planned.planning import PlanOptions, plan_options
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import EvaluationError, OutputError, RecipeError
from quantrecipe.remote_files import is_elsewhere

if TYPE_CHECKING:
    from quantrecipe.cli.report.estimates import Estimate
    from quantrecipe.cli.report.evaluations import Evaluated
    from quantrecipe.cli.report.pair import Pair
    from quantrecipe.cli.report.subject import Subject

__all__ = ["command"]

# What files have, too; every other option of plans is about making one.
_OF_FILES = {"imatrix", "another_model", "sensitivity"}


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

    recipes, models = _sorted(ctx, words)
    if output.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{output} is no name for a page", "end it with .html")
    check_output(output, force=force)
    check_pictures()
    if not recipes:
        _refuse_options_of_plans()
    if base is not None and (len(recipes) > 1 or len(models) > 1):
        raise click.UsageError(
            "--base is what one recipe, or one file, is compared with: leave the other one out."
        )
    from quantrecipe.cli.report.evaluations import read_evaluation
    from quantrecipe.cli.report.pair import pair_of_files, pair_of_plans

    found = [read_evaluation(path) for path in evaluations]
    wanted = PlanOptions(**options)
    pair = (
        pair_of_plans(ctx, recipes, models[0], base, wanted)
        if recipes
        else pair_of_files(ctx, models, base, wanted)
    )
    page = _page(pair, found)
    write_text(output, page, force=force)
    size = -(-len(page.encode()) // 1024)
    ctx.console.print(f"wrote {printable(str(output))} ({size:,} KiB)")


def _sorted(ctx: Context, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Recipes and models, of which the last word is one. UsageError where they can't be told apart."""
    from quantrecipe.cli.word_order import is_model

    *before, last = words
    are = [is_elsewhere(word) or is_model(word) for word in words]
    models = [*(word for word, it in zip(before, are, strict=False) if it), last]
    recipes = [word for word, it in zip(before, are, strict=False) if not it]
    if not are[-1] and _is_recipe(ctx, last):
        if len(models) > 1:
            raise click.UsageError(f"{models[0]} is a model, and {last} is a recipe: recipes stand first.")
        raise click.UsageError(
            f"{last} is a recipe: name the model behind it. shapes/qwen3-14b is one that ships."
        )
    if len(recipes) > 2 or len(models) > 2 or (recipes and len(models) > 1):
        raise click.UsageError("give one file, two files, or one or two recipes and a model.")
    return recipes, models


def _is_recipe(ctx: Context, word: str) -> bool:
    """True for a recipe's file, and for the name of one that ships."""
    if word.endswith((".yaml", ".yml")):
        return True
    if os.path.lexists(word):  # whoever opens it says what it is
        return False
    from quantrecipe.recipe.load import recipe_place

    try:
        recipe_place(word, ctx.load_registry())
    except RecipeError:
        return False
    return True


def _refuse_options_of_plans() -> None:
    """UsageError for an option that is about making a file, where there is one already."""
    context = click.get_current_context()
    ours = {"words", "output", "base", "evaluations", "force", *_OF_FILES}
    for param in context.command.params:
        given = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if given and param.name not in ours:
            raise click.UsageError(f"{param.opts[0]} is for a recipe and a model: the file is there already.")


def _page(pair: Pair, found: Sequence[Evaluated]) -> str:
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
