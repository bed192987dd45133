"""A diff as Markdown for a pull request: a headline, the totals, the changes that weigh most, the rest folded away.

The text depends on the plans alone, so that a comment that is posted anew changes only when they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quantrecipe.cli.diff.comparison import (
    Comparison,
    bits_text,
    cost_text,
    delta_text,
    effect_text,
    headline,
    idle,
    importance_note,
    metadata_table,
    new_warnings,
    part_rows,
    percent_text,
    problem_text,
    reasons,
    shared_warnings,
    speed_rows,
    summary_table,
    type_text,
    unchanged_table,
    where_idle,
)
from quantrecipe.cli.speed.speed_table import rate_text
from quantrecipe.cli.tables import Kind
from quantrecipe.cli.tables.markup import code, details, escaped, markdown_rows, markdown_table
from quantrecipe.cli.units import bytes_text
from quantrecipe.plan.review.diff import Change, PlanDiff
from quantrecipe.plan.review.rule_changes import RuleChange

__all__ = ["diff_markdown"]

# Changes that stand open; where there are more, these are the largest, and the whole list is folded.
_SHOWN = 12

# Fold the list only where it has more than this many beyond _SHOWN: a shorter rest takes no more room than its fold.
_FEW = 4


def diff_markdown(comparisons: list[Comparison], old: str, new: str, *, every: bool = False) -> str:
    """All models; `every` shows the tensors that stay the same, too."""
    blocks = [f"### Plan: {code(old)} → {code(new)}" if old != new else f"### Plan: {code(new)}"]
    if len(comparisons) > 1:
        blocks.append(markdown_table(summary_table(comparisons, old, new)))
    shared = shared_warnings(comparisons)
    for comparison in comparisons:
        blocks.append(f"#### {code(comparison.model)}: {escaped(headline(comparison, old, new))}")
        blocks += _model(comparison, old, new, every=every)
        blocks += _warnings([it for it in new_warnings(comparison) if it not in shared])
    blocks += _warnings([f"{warning} ({models})" for warning, models in shared.items()])
    if changes := idle(comparisons):
        lines = [f"> **Without effect {where_idle(comparisons)}:**", ">"]
        lines += [f"> - {change.kind}: {_rule_words(change)}" for change in changes]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _model(comparison: Comparison, old: str, new: str, *, every: bool) -> list[str]:
    diff = comparison.diff
    if diff is None:
        lines = ["> [!CAUTION]"]
        for side, error in ((old, comparison.old_error), (new, comparison.new_error)):
            lines += [
                f"> {code(side)}: {escaped(problem_text(problem, side))}<br>"
                for problem in (error.problems if error else ())
            ]
        return ["\n".join(lines)]
    blocks = []
    if diff.differs:
        blocks.append(_totals(diff, speed_rows(comparison)))
    if diff.changes:
        blocks += _changes(diff)
    if found := reasons(diff):
        items = [f"- {code(because)}: {escaped(why)}" for because, why in found.items()]
        blocks.append(details(f"Reasons ({len(items)})", "\n".join(items)))
    if diff.metadata:
        table, count = markdown_table(metadata_table(diff)), len(diff.metadata)
        blocks.append(table if count <= _SHOWN else details(f"Metadata ({count})", table))
    if diff.rules:
        items = [f"- {change.kind}: {_rule_words(change)}{_effect(change)}" for change in diff.rules]
        blocks.append(details(f"In the text of the recipe ({len(items)})", "\n".join(items)))
    if every and diff.same:
        table = markdown_table(unchanged_table(diff))
        blocks.append(details(f"Unchanged: {diff.unchanged} tensors", table))
    return blocks


def _warnings(texts: Sequence[str]) -> list[str]:
    return ["> [!WARNING]\n" + "\n".join(f"> {escaped(text)}<br>" for text in texts)] if texts else []


def _totals(diff: PlanDiff, speeds: list[tuple[str, float, float]]) -> str:
    old, new = diff.old, diff.new
    size = f"{delta_text(diff.delta)} ({percent_text(old.nbytes, new.nbytes)})"
    bits = f"{new.bits_per_weight - old.bits_per_weight:+.3f}".replace("-", "−")
    rows = [
        ["file", bytes_text(old.nbytes), bytes_text(new.nbytes), size],
        *([what, bytes_text(a), bytes_text(b), percent_text(a, b)] for what, a, b in part_rows(diff)),
        ["bits per weight", f"{old.bits_per_weight:.3f}", f"{new.bits_per_weight:.3f}", bits],
    ]
    if diff.cost_before is not None and diff.cost_after is not None:
        without = f" (without {diff.unknown_costs} tensors)" if diff.unknown_costs else ""
        change = percent_text(diff.cost_before, diff.cost_after)
        rows.append(
            [f"estimated error{without}", f"{diff.cost_before:.3g}", f"{diff.cost_after:.3g}", change]
        )
    rows += [
        [what, rate_text(before), rate_text(after), percent_text(before, after)]
        for what, before, after in speeds
    ]
    return markdown_rows(("", "before", "after", "change"), ("word", "number", "number", "number"), rows)


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
        details(f"All {len(diff.changes)} changes", whole),
    ]


def _change_table(changes: Iterable[Change], *, costs: bool) -> str:
    rows = []
    for change in changes:
        note = importance_note(change)
        rows.append(
            [
                code(change.role),
                change.layers,
                str(len(change.members)),
                escaped(type_text(change.before)),
                f"**{escaped(type_text(change.after))}**{f' {note}' if note else ''}",
                bits_text(change.bits(change.before), change.bits(change.after)),
                delta_text(change.delta),
                *([cost_text(change.cost_before, change.cost_after)] if costs else ()),
                code(change.members[0].because),
            ]
        )
    columns: dict[str, Kind] = {"tensor": "name", "layers": "list", "count": "number", "before": "list"}
    columns |= {"after": "list", "bits/weight": "word", "change": "number"}
    columns |= {"estimated error": "word"} if costs else {}
    columns |= {"decided by": "code"}
    return markdown_rows(tuple(columns), tuple(columns.values()), rows)


def _rule_words(change: RuleChange) -> str:
    words = code(change.what)
    return f"{words} ({code(change.origin)})" if change.origin else words


def _effect(change: RuleChange) -> str:
    effect = effect_text(change)
    return f": {effect}" if effect else ""
