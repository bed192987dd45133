"""quantrecipe ci: what a pull request does to recipes: checked, planned, compared with the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.check.command import fails, given_models, lint_all
from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.paths import file_option
from quantrecipe.cli.options.shared import fail_on_option, reasons_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.cli.ci.changed_recipes import Change
    from quantrecipe.cli.ci.comment import Examined
    from quantrecipe.cli.diff.comparison import Comparison
    from quantrecipe.cli.diff.operands import Operand
    from quantrecipe.lint import GivenModel, Report, Severity
    from quantrecipe.plan.review.sides import Side

__all__ = ["command"]

# What warnings call the importance matrix that isn't there (quantrecipe.importance.assumed_importance).
_ASSUMED = "assumed-imatrix.gguf"

# What is compared on if no --model is given: one dense model, one of experts, latent attention, recurrent
# layers.
_MODELS = (
    "shapes/meta-llama-3.1-8b-instruct",
    "shapes/qwen3-30b-a3b",
    "shapes/deepseek-v3.1",
    "shapes/qwen3.6-27b",
)


@subcommand(
    "ci",
    "quantrecipe ci --base origin/main",
    "quantrecipe ci --base origin/main --format github --comment comment.md",
)
@click.option(
    "--base", required=True, metavar="REVISION", help="What to compare with: the branch to merge into."
)
@file_option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="A model that the recipes are for, to check on and to plan; repeatable. Else reference models.",
)
@reasons_option
@fail_on_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "github"]),
    default="text",
    show_default=True,
    help="For people, or as annotations of a GitHub workflow.",
)
@click.option(
    "--comment",
    "comment_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the comment for the pull request, as Markdown.",
)
@pass_context
def command(
    ctx: Context,
    base: str,
    models: tuple[Path, ...],
    strict: bool,
    fail_on: Severity,
    format_: str,
    comment_file: Path | None,
) -> None:
    """Check every recipe that changed since it branched off from REVISION, and those that extend one that did;
    plan them, and compare with what they were.

    Works in a git repository, on the files that git knows in and below the current folder. Plans are made as if there
    were an importance matrix. No weights are needed, and nothing is downloaded.

    \b
    Exit status: 0 nothing as serious as --fail-on was found
                 1 something was, or git doesn't know the revision
                 2 the command line isn't understood
    """
    from quantrecipe.cli.ci.changed_recipes import branching_point, changed_recipes
    from quantrecipe.cli.ci.comment import comment
    from quantrecipe.cli.output_files import check_folder

    if comment_file is not None:  # it may be a pipe
        check_folder(comment_file.parent, option="--comment FILE")
    start = branching_point(base)
    changes = changed_recipes(start)
    registry = ctx.load_registry()
    given = given_models(models, reference=not models, registry=registry)
    reports = _check(changes, given, ctx, strict=strict)
    examined = [
        _examine(change, reports.get(change.path), start, _planned_on(given, models), ctx)
        for change in changes
    ]
    if comment_file is not None:
        text = comment(examined, base).replace(f"{start}:./", f"{base}:").replace(f"{start}:", f"{base}:")
        comment_file.write_text(text, encoding="utf-8")
    _show(ctx, examined, base, format_)
    if fails(list(reports.values()), fail_on):
        raise click.exceptions.Exit(1)


def _check(
    changes: Sequence[Change], models: list[GivenModel], ctx: Context, *, strict: bool
) -> dict[str, Report]:
    paths = [change.path for change in changes if change.kind != "removed"]
    reports = lint_all(paths, models, ctx.load_registry(), settings={}, strict=strict)
    return dict(zip(paths, reports, strict=True))


def _planned_on(models: list[GivenModel], asked_for: tuple[Path, ...]) -> list[GivenModel]:
    return models if asked_for else [it for it in models if it.name in _MODELS]


def _examine(
    change: Change, report: Report | None, base: str, models: list[GivenModel], ctx: Context
) -> Examined:
    from quantrecipe.cli.ci.comment import Examined
    from quantrecipe.cli.diff.command import compare
    from quantrecipe.cli.diff.operands import Operand
    from quantrecipe.cli.planned.inputs import PlanInputs

    inputs = PlanInputs(registry=ctx.load_registry(), assume_imatrix=True, allow_requantize=True)
    if report is None or report.recipe is None:
        return Examined(change=change, report=report)
    new = Operand(change.path, inputs)
    if change.old is None:
        return Examined(change=change, report=report, sides=_sides(new, models))
    old = Operand(f"{base}:./{change.old}", inputs)
    comparisons = [_quiet(compare(old, new, it.name, it.model)) for it in models]
    if not all(it.old_error and it.new_error for it in comparisons):  # what never fitted says nothing
        comparisons = [it for it in comparisons if not (it.old_error and it.new_error)]
    return Examined(change=change, report=report, comparisons=tuple(comparisons))


def _quiet(comparison: Comparison) -> Comparison:
    """The comparison without warnings about the importance matrix, which is only assumed to be there."""
    if comparison.diff is None:
        return comparison
    side = comparison.diff.new
    warnings = tuple(text for text in side.warnings if _ASSUMED not in text)
    return replace(comparison, diff=replace(comparison.diff, new=replace(side, warnings=warnings)))


def _sides(new: Operand, models: list[GivenModel]) -> tuple[tuple[str, Side], ...]:
    from quantrecipe.errors import QuantrecipeError

    found = []
    for given in models:
        try:
            found.append((given.name, new.side(given.model)))
        except QuantrecipeError:
            continue  # what is wrong with a model that was given, the check says
    return tuple(found)


def _show(ctx: Context, examined: list[Examined], base: str, format_: str) -> None:
    from quantrecipe.cli.check.findings_text import print_findings, summary

    reports = [item.report for item in examined if item.report is not None]
    if format_ == "github":
        from quantrecipe.lint.annotations import workflow_commands

        for line in workflow_commands(reports):
            click.echo(line)
        return
    for item in examined:
        if item.report is not None:
            print_findings(ctx.err, item.report, reports)
        for line in _lines(item, base):
            ctx.say(line, indent=4)
    ctx.console.print(summary(reports) if examined else "no recipe changes")


def _lines(item: Examined, base: str) -> list[str]:
    from quantrecipe.cli.diff.comparison import headline
    from quantrecipe.cli.errors import printable
    from quantrecipe.cli.units import bytes_text

    change = item.change
    through = f" through {', '.join(change.through)}" if change.through else ""
    was = f" from {change.old}" if change.kind == "renamed" else ""
    lines = [f"{change.path}: {change.kind}{was}{through}"]
    lines += [f"  {it.model}: {headline(it, f'{base}:{change.old}', change.path)}" for it in item.comparisons]
    lines += [
        f"  {model}: {side.bits_per_weight:.2f} bits per weight, {bytes_text(side.nbytes)}"
        for model, side in item.sides
    ]
    return [printable(line) for line in lines]
