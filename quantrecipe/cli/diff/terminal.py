"""A diff in the terminal: what changes on each model, the totals, and what the recipes' text has to do with it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

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
from quantrecipe.cli.errors import printable
from quantrecipe.cli.speed.speed_table import rate_text
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table
from quantrecipe.cli.units import bytes_text
from quantrecipe.plan.review.diff import Change, PlanDiff
from quantrecipe.plan.review.rule_changes import RuleChange

__all__ = ["changes_table", "render_diff", "totals_table"]


def render_diff(comparisons: list[Comparison], old: str, new: str, *, every: bool = False) -> RenderableType:
    """All models, one after the other. `every` shows the tensors that stay the same, too."""
    parts: list[RenderableType] = []
    if len(comparisons) > 1:
        parts.append(summary_table(comparisons, old, new))
    shared = shared_warnings(comparisons)
    for comparison in comparisons:
        parts += [_title(comparison, old, new), *_model(comparison, old, new, every=every)]
        own = [warning for warning in new_warnings(comparison) if warning not in shared]
        parts += [*(Paragraph(f"! {printable(warning)}", "yellow") for warning in own), Text()]
    if shared:
        told = [Paragraph(f"! {printable(text)} ({models})", "yellow") for text, models in shared.items()]
        parts += [*told, Text()]
    if changes := idle(comparisons):
        parts.append(_idle(changes, where_idle(comparisons)))
    else:
        parts.pop()
    return Group(*parts)


def _title(comparison: Comparison, old: str, new: str) -> Paragraph:
    said = f": {printable(headline(comparison, old, new))}"
    return Paragraph(Text.assemble((printable(comparison.model), "bold"), said))


def _model(comparison: Comparison, old: str, new: str, *, every: bool) -> list[RenderableType]:
    diff = comparison.diff
    if diff is None:
        lines: list[RenderableType] = []
        for side, error in ((old, comparison.old_error), (new, comparison.new_error)):
            for problem in error.problems if error else ():
                said = printable(problem_text(problem, side))
                lines.append(Paragraph(Text.assemble((f"{printable(side)}: ", "bold red"), said)))
        return lines
    parts: list[RenderableType] = []
    if diff.changes:
        parts.append(changes_table(diff))
    if found := reasons(diff):
        parts += [
            Table(("text", "text"), [((because, "dim"), why) for because, why in found.items()]),
            Text(),
        ]
    if every and diff.same:
        parts += [Text("unchanged", "dim"), unchanged_table(diff)]
    if diff.metadata:
        parts.append(metadata_table(diff))
    if diff.differs:
        parts.append(totals_table(comparison))
    return [*parts, *(_rule(change) for change in diff.rules)]


def changes_table(diff: PlanDiff) -> Table:
    """A line for tensors that fare alike: what they were, what they are, and what decided."""
    costs = diff.unknown_costs is not None
    rows: list[tuple[Cell, ...]] = [
        (
            change.role,
            change.layers,
            str(len(change.members)),
            _types(change),
            _delta(change.delta),
            bits_text(change.bits(change.before), change.bits(change.after)),
            cost_text(change.cost_before, change.cost_after) if costs else bytes_text(change.nbytes_after),
            (change.members[0].because, "" if change.after else "dim"),
        )
        for change in diff.changes
    ]
    columns: dict[str, Kind] = {"tensor": "name", "layers": "list", "count": "number", "type": "list"}
    columns |= {"change": "number", "bits/weight": "word"}
    # A line has only so much room: what a tensor costs says more than its size.
    columns |= {"estimated error": "word"} if costs else {"size": "number"}
    return Table(columns | {"decided by": "text"}, rows)


def _types(change: Change) -> Text:
    before, after = type_text(change.before), type_text(change.after)
    if note := importance_note(change):
        return Text.assemble((after, "bold"), (f" {note}", "yellow"))
    text = Text.assemble((before, "dim"), " → ", (after, "bold"))
    return text.append(" (gone)" if not change.after else " (new)" if not change.before else "")


def _delta(nbytes: int) -> Text:
    return Text(delta_text(nbytes), "" if not nbytes else "red" if nbytes > 0 else "green")


def totals_table(comparison: Comparison) -> RenderableType:
    """Both sides as a whole: bytes, bits, the estimated error and the speed, where these are known."""
    diff = comparison.diff
    if diff is None:
        return Text()
    old, new = diff.old, diff.new
    bits = f"{new.bits_per_weight - old.bits_per_weight:+.3f}".replace("-", "−")
    rows: list[tuple[Cell, ...]] = [
        ("file", bytes_text(old.nbytes), bytes_text(new.nbytes), _percent(old.nbytes, new.nbytes)),
        *((what, bytes_text(a), bytes_text(b), _percent(a, b)) for what, a, b in part_rows(diff)),
        ("bits per weight", f"{old.bits_per_weight:.3f}", f"{new.bits_per_weight:.3f}", bits),
    ]
    if diff.cost_before is not None and diff.cost_after is not None:
        row = f"{diff.cost_before:.3g}", f"{diff.cost_after:.3g}", _percent(diff.cost_before, diff.cost_after)
        rows.append(("estimated error", *row))
    for what, before, after in speed_rows(comparison):
        change = Text(
            percent_text(before, after), "green" if after > before else "red" if after < before else ""
        )
        rows.append((what, rate_text(before), rate_text(after), change))
    table = Table(("word", "number", "number", "number"), rows)
    if not diff.unknown_costs:
        return table
    return Group(table, Paragraph(f"not in the estimate: {diff.unknown_costs} tensors that change", "dim"))


def _percent(before: float, after: float) -> Text:
    return Text(percent_text(before, after), "red" if after > before else "green" if after < before else "")


def _rule(change: RuleChange) -> Paragraph:
    text = Text(f"{change.kind}: ", "bold")
    text.append(printable(change.what))
    if change.origin:
        text.append(f"  {printable(change.origin)}", "dim")
    if effect := effect_text(change):
        text.append(f"  {effect}", "yellow" if change.decides == 0 else "")
    return Paragraph(text)


def _idle(changes: list[RuleChange], where: str) -> RenderableType:
    lines = (f"  {change.kind} {printable(change.origin or change.what)}" for change in changes)
    return Group(*(Paragraph(line, "yellow", 4) for line in (f"without effect {where}:", *lines)))
