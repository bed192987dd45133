"""The comment on a pull request: what changed, what was found, and what it does to models. Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quantrecipe.cli.ci.changed_recipes import Change
from quantrecipe.cli.diff.comparison import Comparison, headline
from quantrecipe.cli.diff.markdown import diff_markdown
from quantrecipe.cli.tables import Kind, Table
from quantrecipe.cli.tables.markup import code, details, escaped_around_code, markdown_table
from quantrecipe.cli.units import bytes_text
from quantrecipe.lint import Finding, Report
from quantrecipe.plan.review.sides import Side

__all__ = ["MARKER", "Examined", "comment"]

MARKER = "<!-- quantrecipe -->"
"""By which the comment of an earlier run is found, to be replaced."""

# GitHub takes 65,536 characters.
_LONGEST = 60_000
# More would push what changes out of sight; `quantrecipe check` has them all.
_MOST_FINDINGS = 30
_SIGNS = {"error": "🔴", "warning": "🟠", "advice": "🔵"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """A change, and what was found of it.

    comparisons: against the base, on each model; of what wasn't there, none
    sides:       what an added recipe makes of each model
    """

    change: Change
    report: Report | None
    comparisons: tuple[Comparison, ...] = ()
    sides: tuple[tuple[str, Side], ...] = ()


def comment(examined: Sequence[Examined], base: str) -> str:
    """The whole comment; where it would be too long, the longest parts give way to their headlines."""
    head = [MARKER, "## Recipes", _totals(examined)]
    if not examined:
        return "\n\n".join([MARKER, "## Recipes", "No recipe changes."]) + "\n"
    head += _findings(examined)
    parts = [_part(item, base) for item in examined]
    short = [_headlines(item, base) for item in examined]
    while len("\n\n".join([*head, *parts])) > _LONGEST and parts != short:
        longest = max((i for i in range(len(parts)) if parts[i] != short[i]), key=lambda i: len(parts[i]))
        parts[longest] = short[longest]
    return ("\n\n".join([*head, *parts])[: _LONGEST + 2_000]) + "\n"


def _totals(examined: Sequence[Examined]) -> str:
    kinds = Counter(item.change.kind for item in examined)
    words = [f"{kinds[kind]} {kind}" for kind in ("added", "changed", "renamed", "removed") if kinds[kind]]
    if kinds["inherits"]:
        words.append(f"{kinds['inherits']} more through `extends`")
    found = Counter(finding.severity for item in examined if item.report for finding in item.report.findings)
    plural = {"error": "errors", "warning": "warnings", "advice": "advice"}
    findings = [
        f"{_SIGNS[severity]} {found[severity]} {severity if found[severity] == 1 else plural[severity]}"
        for severity in ("error", "warning", "advice")
        if found[severity]
    ]
    return f"**{', '.join(words)}** · {', '.join(findings) or '✅ nothing to say'}"


def _findings(examined: Sequence[Examined]) -> list[str]:
    findings = [finding for item in examined if item.report for finding in item.report.findings]
    if not findings:
        return []
    order = list(_SIGNS)
    findings.sort(key=lambda finding: order.index(finding.severity))
    lines = [_finding(finding) for finding in findings[:_MOST_FINDINGS]]
    if len(findings) > _MOST_FINDINGS:
        lines.append(f"- … and {len(findings) - _MOST_FINDINGS} more: `quantrecipe check` shows them all")
    serious = any(finding.severity != "advice" for finding in findings)
    return [details(f"Findings ({len(findings)})", "\n".join(lines), shown=serious)]


def _finding(finding: Finding) -> str:
    problem = finding.problem
    place = f"{problem.file}:{problem.line}" if problem.line else str(problem.file or "")
    text = f"{problem.what}; {problem.remedy}" if problem.remedy else problem.what
    return f"- {_SIGNS[finding.severity]} **{finding.code}** {code(place)}: {escaped_around_code(text)}"


def _part(item: Examined, base: str) -> str:
    change = item.change
    if not item.comparisons or change.kind == "inherits":
        return _headlines(item, base)
    body = diff_markdown(list(item.comparisons), f"{base}:{change.old}", change.path)
    summary, models, rest = body.partition("\n")[2].strip().partition("#### ")
    if len(item.comparisons) == 1:
        return f"{_title(item)}\n\n{summary}{models}{rest}"
    return f"{_title(item)}\n\n{summary}{details('Tensor by tensor', f'{models}{rest}')}"


def _headlines(item: Examined, base: str) -> str:
    """The title and a line for each model."""
    change = item.change
    lines = [_title(item), ""]
    if item.comparisons:
        lines += [
            f"- {code(it.model)}: {escaped_around_code(headline(it, f'{base}:{change.old}', change.path))}"
            for it in item.comparisons
        ]
    elif item.sides:
        columns: dict[str, Kind] = {"model": "name", "bits/weight": "number", "size": "number"}
        rows = [(name, f"{side.bits_per_weight:.2f}", bytes_text(side.nbytes)) for name, side in item.sides]
        lines.append(markdown_table(Table(columns, rows)))
    elif change.kind == "removed":
        lines.append("It is gone.")
    else:
        lines.append("It can't be planned on any of the models.")
    return "\n".join(lines)


def _title(item: Examined) -> str:
    change = item.change
    said: str = change.kind
    if change.kind == "renamed":
        said = f"renamed from {code(change.old or '')}"
    elif change.kind == "inherits":
        said = f"through {', '.join(map(code, change.through))}"
    return f"### {code(change.path)}: {said}"
