"""Findings as a person reads them: one paragraph each, and a line for each recipe that has no errors."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Paragraph
from quantrecipe.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console

    from quantrecipe.lint import Finding, Report

__all__ = ["print_findings", "recipe_line", "summary"]

_STYLES = {"error": "bold red", "warning": "bold yellow", "advice": "bold cyan"}


def print_findings(console: Console, report: Report) -> None:
    """Every finding, with its code behind it."""
    for finding in report.findings:
        console.print(_paragraph(finding))


def recipe_line(report: Report) -> Paragraph:
    """`recipes/a.yaml: ok, 3 rules and 19 inherited; fits 9 of 16 reference models`."""
    assert report.recipe is not None
    own = sum(rule.own for rule in report.recipe.rules)
    inherited = len(report.recipe.rules) - own
    text = Text(printable(report.ref), "bold")
    text.append(": ok", "green")
    text.append(f", {_count(own, 'rule')}")
    text.append(f" and {inherited} inherited" if inherited else "")
    references = [name for name in report.checked if name.startswith("shapes/")]
    if references and len(report.fits) < len(references):
        text.append(f"; fits {len(report.fits)} of {len(references)} reference models")
    return Paragraph(text)


def summary(reports: list[Report]) -> Text:
    """How much was found, in all recipes together."""
    counts = Counter(finding.severity for report in reports for finding in report.findings)
    words = {
        "error": _count(counts["error"], "error"),
        "warning": _count(counts["warning"], "warning"),
        "advice": f"{counts['advice']} advice",
    }
    found = ", ".join(words[name] for name in words if counts[name])  # type: ignore[index]  # its own keys
    return Text(f"{_count(len(reports), 'recipe')}: {found or 'nothing to say'}")


def _paragraph(finding: Finding) -> Paragraph:
    problem = finding.problem
    rest = str(Problem(what=problem.what, remedy=problem.remedy))
    where = printable(str(problem).removesuffix(rest))
    label, code = (f"{finding.severity}: ", _STYLES[finding.severity]), (f" [{finding.code}]", "dim")
    return Paragraph(Text.assemble(label, (where, "bold"), printable(rest), code), whole=where.strip())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
