"""quantrecipe check-plugin: does an installed plugin keep what the contract promises?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context, watched
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.cli.units import counted

if TYPE_CHECKING:
    from quantrecipe.testing import Result

__all__ = ["command"]


@subcommand(
    "check-plugin",
    "quantrecipe check-plugin quantrecipe-example",
    "quantrecipe check-plugin quantrecipe-example --only Q4_96 --seed 7",
    "quantrecipe check-plugin quantrecipe-example --json",
)
@click.argument("distribution", metavar="PACKAGE")
@click.option("--only", metavar="NAME", help="Only this format, analysis or recipe of the package.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the rows that are tried.",
)
@json_option
@pass_context
def command(ctx: Context, distribution: str, only: str | None, seed: int, as_json: bool) -> None:
    """Check that an installed PACKAGE keeps everything that quantrecipe relies on.

    Formats: sizes, the same bytes for any split of the rows and any thread, odd layouts of arrays, NaN and Inf,
    rows that are hard, damaged bytes, the error that is stated, importance, fallbacks, names. Analyses and recipes
    have checks of their own. What fails says which row, which block and which bits. The exit status is 1 if
    anything fails. The same checks run in pytest: see quantrecipe.testing.
    """
    from rich.progress import track

    from quantrecipe.errors import PluginError
    from quantrecipe.testing import plugin_checks, run_check

    checks = list(plugin_checks(distribution, seed=seed))
    if only is not None:
        subjects = list(dict.fromkeys(check.subject for check in checks))
        checks = [check for check in checks if check.subject == only]
        if not checks:
            raise PluginError(f"{distribution} has no {only!r} to check", f"it has {', '.join(subjects)}")
    shown = track(checks, "checking", console=ctx.err, transient=True, disable=not watched(ctx.err))
    results = [run_check(check) for check in shown]
    if as_json:
        ctx.print_json([_document(result) for result in results])
    else:
        ctx.console.print(_report(results))
    if any(result.failure for result in results):
        raise click.exceptions.Exit(1)


def _report(results: Sequence[Result]) -> Any:
    from itertools import groupby

    from rich.console import Group
    from rich.text import Text

    from quantrecipe.cli.tables import Paragraph

    lines: list[Paragraph] = []
    for subject, group in groupby(results, key=lambda result: result.check.subject):
        of_subject = list(group)
        failed = [result for result in of_subject if result.failure]
        line = Text(printable(subject), "bold")
        kept = counted(len(of_subject), "check")
        line.append(
            f": {len(failed)} of {kept} failed" if failed else f": {kept} passed",
            "red" if failed else "green",
        )
        line.append(f", {sum(result.seconds for result in of_subject):.1f} s", "dim")
        lines.append(Paragraph(line))
        for result in failed:
            promise = Text.assemble("  ", (result.check.name, "bold red"), f"  {result.check.promise}")
            lines.append(Paragraph(promise, indent=4))
            lines.append(Paragraph(f"      {printable(result.failure)}", indent=6))
    return Group(*lines)


def _document(result: Result) -> dict[str, Any]:
    return {
        "subject": result.check.subject,
        "check": result.check.name,
        "promise": result.check.promise,
        "ok": not result.failure,
        "failure": result.failure or None,
        "seconds": round(result.seconds, 3),
    }
