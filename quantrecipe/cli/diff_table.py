"""A diff in the terminal: what changes on each model, the totals, and what the recipes' text has to do with it."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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

__all__ = ["render_diff"]


def render_diff(comparisons: list[Comparison], old: str, new: str, *, every: bool = False) -> RenderableType:
    """All models, one after the other. `every` shows the tensors that stay the same, too."""
    parts: list[RenderableType] = []
    if len(comparisons) > 1:
        parts += [_summary(comparisons, old, new), Text()]
    shared = shared_warnings(comparisons)
    for comparison in comparisons:
        parts += [_title(comparison, old, new), *_model(comparison, old, new, every=every)]
        own = [warning for warning in new_warnings(comparison) if warning not in shared]
        parts += [*(Text(f"! {printable(warning)}", "yellow") for warning in own), Text()]
    if shared:
        told = [Text(f"! {printable(text)} ({models})", "yellow") for text, models in shared.items()]
        parts += [*told, Text()]
    if changes := idle(comparisons):
        parts.append(_idle(changes, where_idle(comparisons)))
    else:
        parts.pop()
    return Group(*parts)


def _summary(comparisons: list[Comparison], old: str, new: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    table.add_column("bits per weight", no_wrap=True)
    table.add_column("size", no_wrap=True, justify="right")
    table.add_column("change", overflow="fold")
    for comparison in comparisons:
        diff = comparison.diff
        words = Text(printable(headline(comparison, old, new)), "red" if diff is None else "")
        bits = "" if diff is None else bits_text(diff.old.bits_per_weight, diff.new.bits_per_weight)
        size = "" if diff is None else bytes_text(diff.new.nbytes)
        table.add_row(Text(printable(comparison.model)), bits, size, words)
    return table


def _title(comparison: Comparison, old: str, new: str) -> Text:
    text = Text(printable(comparison.model), "bold")
    return text.append(f": {printable(headline(comparison, old, new))}", "not bold")


def _model(comparison: Comparison, old: str, new: str, *, every: bool) -> list[RenderableType]:
    diff = comparison.diff
    if diff is None:
        lines: list[RenderableType] = []
        for side, error in ((old, comparison.old_error), (new, comparison.new_error)):
            for problem in error.problems if error else ():
                lines.append(
                    Text.assemble(
                        (f"{printable(side)}: ", "bold red"), printable(problem_text(problem, side))
                    )
                )
        return lines
    parts: list[RenderableType] = []
    if diff.changes:
        parts.append(_changes(diff))
    if found := reasons(diff):
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        for because, why in found.items():
            table.add_row(Text(printable(because), "dim"), Text(printable(why)))
        parts += [table, Text()]
    if every and diff.same:
        parts += [Text("unchanged", "dim"), _unchanged(diff)]
    if diff.metadata:
        parts.append(_metadata(diff))
    if diff.differs:
        parts.append(_totals(diff))
    return [*parts, *(_rule(change) for change in diff.rules)]


def _changes(diff: PlanDiff) -> Table:
    costs = diff.unknown_costs is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", no_wrap=True)
    table.add_column("layers", max_width=20)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("type", overflow="fold")
    table.add_column("bits", no_wrap=True)
    if not costs:  # a line has only so much room
        table.add_column("size", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    if costs:
        table.add_column("estimated error", no_wrap=True)
    table.add_column("decided by", overflow="fold")
    for change in diff.changes:
        error = (cost_text(change.cost_before, change.cost_after),) if costs else ()
        table.add_row(
            printable(change.role),
            change.layers,
            str(len(change.members)),
            _types(change),
            bits_text(change.bits(change.before), change.bits(change.after)),
            *(() if costs else (bytes_text(change.nbytes_after),)),
            _delta(change.delta),
            *error,
            Text(printable(change.members[0].because), "" if change.after else "dim"),
        )
    return table


def _types(change: Change) -> Text:
    before, after = type_text(change.before), type_text(change.after)
    if note := importance_note(change):
        return Text.assemble((after, "bold"), (f" {note}", "yellow"))
    text = Text.assemble((before, "dim"), " → ", (after, "bold"))
    return text.append(" (gone)" if not change.after else " (new)" if not change.before else "")


def _delta(nbytes: int) -> Text:
    return Text(delta_text(nbytes), "" if not nbytes else "red" if nbytes > 0 else "green")


def _unchanged(diff: PlanDiff) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("tensor", "layers", "n", "type", "size", "decided by"):
        table.add_column(heading, justify="right" if heading in ("n", "size") else "left", overflow="fold")
    for change in diff.same:
        table.add_row(
            printable(change.role),
            change.layers,
            str(len(change.members)),
            type_text(change.after),
            bytes_text(change.nbytes_after),
            Text(printable(change.members[0].because), "dim"),
        )
    return table


def _metadata(diff: PlanDiff) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("metadata", "before", "after"):
        table.add_column(heading, overflow="fold")
    for key, (before, after) in diff.metadata.items():
        table.add_row(
            Text(printable(key)),
            Text(printable(value_text(key, before)), "dim"),
            Text(printable(value_text(key, after))),
        )
    return table


def _totals(diff: PlanDiff) -> RenderableType:
    old, new = diff.old, diff.new
    table = Table.grid(padding=(0, 2))
    table.add_column()
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_row("size", bytes_text(old.nbytes), bytes_text(new.nbytes), _percent(old.nbytes, new.nbytes))
    table.add_row(
        "bits per weight",
        f"{old.bits_per_weight:.3f}",
        f"{new.bits_per_weight:.3f}",
        f"{new.bits_per_weight - old.bits_per_weight:+.3f}".replace("-", "−"),
    )
    if diff.cost_before is not None and diff.cost_after is not None:
        row = f"{diff.cost_before:.3g}", f"{diff.cost_after:.3g}", _percent(diff.cost_before, diff.cost_after)
        table.add_row("estimated error", *row)
    if not diff.unknown_costs:
        return table
    return Group(table, Text(f"not in the estimate: {diff.unknown_costs} tensors that change", "dim"))


def _percent(before: float, after: float) -> Text:
    return Text(percent_text(before, after), "red" if after > before else "green" if after < before else "")


def _rule(change: RuleChange) -> Text:
    text = Text(f"{change.kind}: ", "bold")
    text.append(printable(change.what))
    if change.origin:
        text.append(f"  {printable(change.origin)}", "dim")
    if effect := effect_text(change):
        text.append(f"  {effect}", "yellow" if change.decides == 0 else "")
    return text


def _idle(changes: list[RuleChange], where: str) -> Text:
    lines = "".join(f"\n  {c.kind} {printable(c.origin or c.what)}" for c in changes)
    return Text(f"without effect {where}:{lines}", "yellow")
