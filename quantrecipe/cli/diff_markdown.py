"""A diff as Markdown for a pull request: a headline, the totals, the changes that weigh most, the rest folded away.

The text depends on the plans alone, so that a comment that is posted anew changes only when they do. Names and
reasons come from files, and are shown as text: none of them is markup, a mention or a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from quantrecipe.cli.diff_text import (
    Comparison,
    bits_text,
    cost_text,
    delta_text,
    effect_text,
    headline,
    idle,
    importance_note,
    new_warnings,
    percent_text,
    problem_text,
    reasons,
    shared_warnings,
    type_text,
    value_text,
    where_idle,
)
from quantrecipe.cli.errors import printable
from quantrecipe.cli.units import bytes_text
from quantrecipe.plan.diff import Change, PlanDiff
from quantrecipe.plan.rule_changes import RuleChange

__all__ = ["diff_markdown"]

_SHOWN = 12
"""Changes that stand open; where there are more, these are the largest, and the whole list is folded."""

_FEW = 4
"""More than these; folding saves nothing else."""

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
"""What could be markup. An underscore within a word is none."""


def diff_markdown(comparisons: list[Comparison], old: str, new: str, *, every: bool = False) -> str:
    """All models; `every` shows the tensors that stay the same, too."""
    blocks = [f"### Plan: {_code(old)} → {_code(new)}" if old != new else f"### Plan: {_code(new)}"]
    if len(comparisons) > 1:
        blocks.append(_summary(comparisons, old, new))
    shared = shared_warnings(comparisons)
    for comparison in comparisons:
        blocks.append(f"#### {_code(comparison.model)}: {_escape(headline(comparison, old, new))}")
        blocks += _model(comparison, old, new, every=every)
        blocks += _warnings([it for it in new_warnings(comparison) if it not in shared])
    blocks += _warnings([f"{warning} ({models})" for warning, models in shared.items()])
    if changes := idle(comparisons):
        lines = [f"> **Without effect {where_idle(comparisons)}:**", ">"]
        lines += [f"> - {change.kind}: {_rule_words(change)}" for change in changes]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _summary(comparisons: Sequence[Comparison], old: str, new: str) -> str:
    rows = []
    for comparison in comparisons:
        diff = comparison.diff
        bits = "" if diff is None else bits_text(diff.old.bits_per_weight, diff.new.bits_per_weight)
        size = "" if diff is None else bytes_text(diff.new.nbytes)
        words = _escape(headline(comparison, old, new))
        rows.append([_code(comparison.model), bits, size, words if diff is not None else f"**{words}**"])
    return _table(["model", "bits/weight", "size", "change"], "llrl", rows)


def _model(comparison: Comparison, old: str, new: str, *, every: bool) -> list[str]:
    diff = comparison.diff
    if diff is None:
        lines = ["> [!CAUTION]"]
        for side, error in ((old, comparison.old_error), (new, comparison.new_error)):
            lines += [
                f"> {_code(side)}: {_escape(problem_text(problem, side))}<br>"
                for problem in (error.problems if error else ())
            ]
        return ["\n".join(lines)]
    blocks = []
    if diff.differs:
        blocks.append(_totals(diff))
    if diff.changes:
        blocks += _changes(diff)
    if found := reasons(diff):
        items = [f"- {_code(because)}: {_escape(why)}" for because, why in found.items()]
        blocks.append(_details(f"Reasons ({len(items)})", "\n".join(items)))
    if diff.metadata:
        rows = [
            [_code(key), _escape(value_text(key, before)), _escape(value_text(key, after))]
            for key, (before, after) in diff.metadata.items()
        ]
        table = _table(["metadata", "before", "after"], "lll", rows)
        blocks.append(table if len(rows) <= _SHOWN else _details(f"Metadata ({len(rows)})", table))
    if diff.rules:
        items = [f"- {change.kind}: {_rule_words(change)}{_effect(change)}" for change in diff.rules]
        blocks.append(_details(f"In the text of the recipe ({len(items)})", "\n".join(items)))
    if every and diff.same:
        rows = [
            [
                _code(change.role),
                change.layers,
                str(len(change.members)),
                _escape(type_text(change.after)),
                bytes_text(change.nbytes_after),
                _code(change.members[0].because),
            ]
            for change in diff.same
        ]
        table = _table(["tensor", "layers", "count", "type", "size", "decided by"], "llrlrl", rows)
        blocks.append(_details(f"Unchanged: {diff.unchanged} tensors", table))
    return blocks


def _warnings(texts: Sequence[str]) -> list[str]:
    return ["> [!WARNING]\n" + "\n".join(f"> {_escape(text)}<br>" for text in texts)] if texts else []


def _totals(diff: PlanDiff) -> str:
    old, new = diff.old, diff.new
    size = f"{delta_text(diff.delta)} ({percent_text(old.nbytes, new.nbytes)})"
    bits = f"{new.bits_per_weight - old.bits_per_weight:+.3f}".replace("-", "−")
    rows = [
        ["size", bytes_text(old.nbytes), bytes_text(new.nbytes), size],
        ["bits per weight", f"{old.bits_per_weight:.3f}", f"{new.bits_per_weight:.3f}", bits],
    ]
    if diff.cost_before is not None and diff.cost_after is not None:
        without = f" (without {diff.unknown_costs} tensors)" if diff.unknown_costs else ""
        change = percent_text(diff.cost_before, diff.cost_after)
        rows.append(
            [f"estimated error{without}", f"{diff.cost_before:.3g}", f"{diff.cost_after:.3g}", change]
        )
    return _table(["", "before", "after", "change"], "lrrr", rows)


def _changes(diff: PlanDiff) -> list[str]:
    costs = diff.unknown_costs is not None
    if len(diff.changes) <= _SHOWN + _FEW:
        return [_change_table(diff.changes, costs=costs)]
    largest = set(sorted(range(len(diff.changes)), key=lambda n: (-abs(diff.changes[n].delta), n))[:_SHOWN])
    shown = [change for number, change in enumerate(diff.changes) if number in largest]
    whole = _change_table(diff.changes, costs=costs)
    return [
        f"The {_SHOWN} changes that weigh most:",
        _change_table(shown, costs=costs),
        _details(f"All {len(diff.changes)} changes", whole),
    ]


def _change_table(changes: Iterable[Change], *, costs: bool) -> str:
    rows = []
    for change in changes:
        note = importance_note(change)
        rows.append(
            [
                _code(change.role),
                change.layers,
                str(len(change.members)),
                _escape(type_text(change.before)),
                f"**{_escape(type_text(change.after))}**{f' {note}' if note else ''}",
                bits_text(change.bits(change.before), change.bits(change.after)),
                delta_text(change.delta),
                *([cost_text(change.cost_before, change.cost_after)] if costs else ()),
                _code(change.members[0].because),
            ]
        )
    headings = ["tensor", "layers", "count", "before", "after", "bits/weight", "change"]
    return _table(
        [*headings, *(["estimated error"] if costs else []), "decided by"],
        "llrlllr" + ("l" if costs else "") + "l",
        rows,
    )


def _rule_words(change: RuleChange) -> str:
    words = _code(change.what)
    return f"{words} ({_code(change.origin)})" if change.origin else words


def _effect(change: RuleChange) -> str:
    effect = effect_text(change)
    return f": {effect}" if effect else ""


def _table(headings: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> str:
    marks = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, marks, *rows))


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _code(text: str) -> str:
    """The text as code, in a table too."""
    text = printable(text).replace("`", "'").replace("|", "\\|").strip()
    return f"`{text}`" if text else ""


def _escape(text: str) -> str:
    """The text as text: a zero-width space keeps @names, #numbers and addresses from becoming links."""
    escaped = _SPECIAL.sub(r"\\\g<0>", printable(text))
    return re.sub(r"@|#(?=\d)|:(?=//)|www(?=\.)", "\\g<0>\u200b", escaped)
