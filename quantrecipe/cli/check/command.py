"""quantrecipe check: are these recipes right, and what would a reviewer say of them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_note
from quantrecipe.cli.named_recipes import expand_names, print_notes, settings_of_each, settings_option
from quantrecipe.cli.options.paths import RECIPE, file_option
from quantrecipe.cli.options.shared import fail_on_option, reasons_option
from quantrecipe.cli.subcommand import subcommand

if TYPE_CHECKING:
    from quantrecipe.lint import GivenModel, Report, Severity
    from quantrecipe.registry import Registry

__all__ = ["command", "fails", "given_models", "lint_all"]

Format = Literal["text", "json", "sarif", "github"]


@subcommand(
    "check",
    "quantrecipe check recipes/code-model.yaml",
    "quantrecipe check recipes --strict --fail-on warning",
    "quantrecipe check mine.yaml --model model-BF16.gguf --model shapes/qwen3-30b-a3b",
    "quantrecipe check recipes --format sarif > check.sarif",
)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...", type=RECIPE)
@file_option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="A model that the recipes are for: GGUF, Hugging Face folder, shape file, or shapes/NAME. Repeatable.",
)
@click.option(
    "--reference/--no-reference",
    default=None,
    help="Check on the reference models too (quantrecipe shapes); by default if no --model is given.",
)
@settings_option
@reasons_option
@fail_on_option
@click.option("--no-advice", is_flag=True, help="Leave advice out.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="For people; as JSON; as SARIF 2.1.0; or as annotations of a GitHub workflow.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@pass_context
def command(
    ctx: Context,
    recipes: tuple[str, ...],
    models: tuple[Path, ...],
    reference: bool | None,
    settings: Mapping[str, str],
    strict: bool,
    fail_on: Severity,
    no_advice: bool,
    format_: Format,
    as_json: bool,
) -> None:
    """Check recipes: every problem of every file at once, each with a code (quantrecipe help check).

    RECIPE is a path, a name as in extends (llama.cpp/Q4_K_M), a glob of such names ('llama.cpp/Q4_*'), or a folder: all
    recipes in it. Errors are wrong on any reading, warnings are probably not what was meant, advice is a matter of
    judgement.

    \b
    Exit status: 0 nothing as serious as --fail-on was found
                 1 something was
                 2 the command line isn't understood
    """
    from quantrecipe.cli.check.recipe_files import recipe_files, shipped_namesakes

    registry = ctx.load_registry()
    names = expand_names(ctx, recipes, registry)
    for note in shipped_namesakes(names, registry):
        print_note(ctx.err, note)
    given = given_models(models, reference=not models if reference is None else reference, registry=registry)
    reports = lint_all(recipe_files(names), given, registry, settings=settings, strict=strict)
    print_notes(ctx, *(report.recipe for report in reports if report.recipe is not None))
    if no_advice:
        reports = [_without_advice(report) for report in reports]
    _show(ctx, reports, "json" if as_json else format_)
    if fails(reports, fail_on):
        raise click.exceptions.Exit(1)


def given_models(paths: tuple[Path, ...], *, reference: bool, registry: Registry) -> list[GivenModel]:
    """The models to check on. ModelError where one can't be read."""
    from quantrecipe.lint import GivenModel
    from quantrecipe.model.not_a_model import require_model
    from quantrecipe.model.open_model import open_model
    from quantrecipe.model.reference_models import reference_models

    given = [GivenModel(name=path.as_posix(), model=open_model(path, registry=registry)) for path in paths]
    for it in given:
        require_model(it.model)
    if reference:
        known = {it.name for it in given}
        given += [
            GivenModel(name=name, model=open_model(name, registry=registry), reference=True)
            for name in reference_models()
            if name not in known
        ]
    return given


def lint_all(
    recipes: list[str],
    models: list[GivenModel],
    registry: Registry,
    *,
    settings: Mapping[str, str],
    strict: bool,
) -> list[Report]:
    """Checks every recipe, and returns a report for each of them."""
    from quantrecipe.lint import lint
    from quantrecipe.targets import load_targets

    targets = load_targets()
    chosen = settings_of_each(recipes, registry, settings)
    return [
        lint(name, registry=registry, targets=targets, models=models, settings=chosen[name], strict=strict)
        for name in recipes
    ]


def _without_advice(report: Report) -> Report:
    return replace(report, findings=tuple(it for it in report.findings if it.severity != "advice"))


def fails(reports: list[Report], least: Severity) -> bool:
    """True if something as serious as this was found."""
    from quantrecipe.lint.finding import SEVERITIES

    serious = SEVERITIES[: SEVERITIES.index(least) + 1]
    return any(finding.severity in serious for report in reports for finding in report.findings)


def _show(ctx: Context, reports: list[Report], format_: Format) -> None:
    match format_:
        case "json":
            ctx.print_json([_document(report) for report in reports])
        case "sarif":
            from quantrecipe.lint.annotations import to_sarif

            ctx.print_json(to_sarif(reports))
        case "github":
            from quantrecipe.lint.annotations import workflow_commands

            for line in workflow_commands(reports):
                click.echo(line)
        case "text":
            from quantrecipe.cli.check.findings_text import print_findings, recipe_line, summary

            for report in reports:
                print_findings(ctx.err, report, reports)
                if report.ok and report.recipe is not None:
                    ctx.console.print(recipe_line(report, report.recipe))
            if len(reports) > 1:
                ctx.console.print(summary(reports))


def _document(report: Report) -> dict[str, Any]:
    recipe = report.recipe
    return {
        "recipe": report.ref,
        "ok": report.ok,
        "rules": len(recipe.rules) if recipe is not None else None,
        "digest": recipe.digest if recipe is not None else None,
        "models": report.checked,
        "fits": report.fits,
        "problems": report.findings,
    }
