"""Findings as a person reads them: one paragraph each, and a line for each recipe that has no errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Paragraph
from quantrecipe.cli.units import counted
from quantrecipe.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console

    from quantrecipe.lint import Finding, Report
    from quantrecipe.recipe.recipe import Recipe

__all__ = ["print_findings", "recipe_line", "summary"]

_STYLES = {"error": "bold red", "warning": "bold yellow", "advice": "bold cyan"}


def print_findings(console: Console, report: Report, reports: Sequence[Report] = ()) -> None:
    """Every finding, with its code behind it.

    `reports` are all that are printed, in order: what is said of several recipes is said once, of the first, with the
    places in the others.
    """
    places = _places(reports)
    for finding in report.findings:
        where = places.get(_kind(finding), {})
        if report.ref not in where:
            where = {}
        if len(where) > 1 and next(iter(where)) != report.ref:
            continue
        others = list(dict.fromkeys(place for ref, place in where.items() if ref != report.ref))
        others = [place for place in others if place != _place(finding)]
        also = ""
        if others:
            also = f" (also {printable(', '.join(others))})"
        elif len(where) > 1:  # in a recipe that all of them extend
            also = f" ({len(where)} recipes)"
        console.print(_paragraph(finding, also))


def _places(reports: Sequence[Report]) -> dict[tuple[str, ...], dict[str, str]]:
    """By what a finding says, the recipes of which it is said, each with the place; not what is said of one several
    times, which is about its rules.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for report in reports:
        counts = Counter(map(_kind, report.findings))
        for finding in report.findings:
            if counts[_kind(finding)] == 1:
                found.setdefault(_kind(finding), {})[report.ref] = _place(finding)
    return found


def _kind(finding: Finding) -> tuple[str, ...]:
    return finding.code, finding.severity, finding.problem.what, finding.problem.remedy


def _place(finding: Finding) -> str:
    problem = finding.problem
    return f"{problem.file}:{problem.line}" if problem.line else str(problem.file)


def recipe_line(report: Report, recipe: Recipe) -> Paragraph:
    """`recipes/a.yaml: ok, 3 rules and 19 inherited; fits 9 of 16 reference models`."""
    own = sum(rule.own for rule in recipe.rules)
    inherited = len(recipe.rules) - own
    text = Text(printable(report.ref), "bold")
    text.append(": ok", "green")
    text.append(f", {counted(own, 'rule')}")
    text.append(f" and {inherited} inherited" if inherited else "")
    references = [name for name in report.checked if name.startswith("shapes/")]
    if references and len(report.fits) < len(references):
        text.append(f"; fits {len(report.fits)} of {len(references)} reference models")
    return Paragraph(text)


def summary(reports: list[Report]) -> Text:
    """How much was found, in all recipes together."""
    counts = Counter(finding.severity for report in reports for finding in report.findings)
    words = {
        "error": counted(counts["error"], "error"),
        "warning": counted(counts["warning"], "warning"),
        "advice": f"{counts['advice']} advice",
    }
    found = ", ".join(words[name] for name in words if counts[name])  # type: ignore[index]  # its own keys
    return Text(f"{counted(len(reports), 'recipe')}: {found or 'nothing to say'}")


def _paragraph(finding: Finding, also: str = "") -> Paragraph:
    problem = finding.problem
    rest = str(Problem(what=problem.what, remedy=problem.remedy))
    where = printable(str(problem).removesuffix(rest))
    label, code = (f"{finding.severity}: ", _STYLES[finding.severity]), (f" [{finding.code}]", "dim")
    return Paragraph(Text.assemble(label, (where, "bold"), printable(rest), code, also), whole=where.strip())
