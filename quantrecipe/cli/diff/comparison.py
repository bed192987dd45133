"""Words, numbers and tables of a diff, the same in the terminal and in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantrecipe.cli.tables import Cell, Kind, Table
from quantrecipe.cli.units import bytes_text, counted
from quantrecipe.errors import Problem, QuantrecipeError
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.plan.review.diff import Change, PlanDiff
from quantrecipe.plan.review.rule_changes import RuleChange
from quantrecipe.plan.review.sides import Fate
from quantrecipe.speed.clock import Pace

__all__ = [
    "Comparison",
    "bits_text",
    "cost_text",
    "delta_text",
    "effect_text",
    "headline",
    "idle",
    "importance_note",
    "metadata_table",
    "new_warnings",
    "part_rows",
    "percent_text",
    "problem_text",
    "reasons",
    "shared_warnings",
    "speed_rows",
    "summary_table",
    "type_text",
    "unchanged_table",
    "value_text",
    "where_idle",
]

# Characters of a metadata value that a line of a table has room for.
_LONGEST = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What became of comparing two sides on one model: the differences, or what keeps a side from being planned.

    paces: how fast each side is on this machine; None where nothing was measured
    """

    model: str
    diff: PlanDiff | None = None
    old_error: QuantrecipeError | None = None
    new_error: QuantrecipeError | None = None
    paces: tuple[Pace | None, Pace | None] = (None, None)

    @property
    def differs(self) -> bool:
        """True where the plans differ, or there are no two plans."""
        return self.diff is None or self.diff.differs

    def to_json(self) -> dict[str, Any]:
        """The differences, or what keeps each side from being planned."""
        if self.diff is not None:
            return self.diff.to_json() | {"speed": {"old": self.paces[0], "new": self.paces[1]}}
        return {
            "model": self.model,
            "differs": True,
            "old_error": _problems(self.old_error),
            "new_error": _problems(self.new_error),
        }


def new_warnings(comparison: Comparison) -> list[str]:
    """The warnings of NEW's plan that OLD's plan doesn't have."""
    diff = comparison.diff
    return [] if diff is None else [it for it in diff.new.warnings if it not in diff.old.warnings]


def shared_warnings(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Warnings that are about several models, each with how many: they are told once, behind the last."""
    counts = Counter(warning for comparison in comparisons for warning in new_warnings(comparison))
    return {
        warning: f"all {count} models"
        if count == len(comparisons)
        else f"{count} of {len(comparisons)} models"
        for warning, count in counts.items()
        if count > 1
    }


def headline(comparison: Comparison, old: str, new: str) -> str:
    """One line that says how much changes."""
    diff = comparison.diff
    if diff is None:
        sides = [side for side, error in ((old, comparison.old_error), (new, comparison.new_error)) if error]
        return f"{' and '.join(dict.fromkeys(sides))} can't be planned"
    if not diff.differs:
        return (
            "no difference"
            if diff.delta == 0
            else f"no difference besides {delta_text(diff.delta)} of header"
        )
    verb = "changes" if diff.touched == 1 else "change"
    touched = f"{diff.touched} of {diff.touched + diff.unchanged} tensors {verb}"
    if not diff.touched:
        touched = "no tensor changes, only the metadata does"
    return f"{delta_text(diff.delta)} ({percent_text(diff.old.nbytes, diff.new.nbytes)}), {touched}"


def summary_table(comparisons: Sequence[Comparison], old: str, new: str) -> Table:
    """A table with a line for each model."""
    rows: list[tuple[Cell, ...]] = []
    for comparison in comparisons:
        diff = comparison.diff
        words = headline(comparison, old, new), "red" if diff is None else ""
        bits = "" if diff is None else bits_text(diff.old.bits_per_weight, diff.new.bits_per_weight)
        rows.append((comparison.model, bits, "" if diff is None else bytes_text(diff.new.nbytes), words))
    return Table({"model": "name", "bits/weight": "word", "size": "number", "change": "text"}, rows)


def speed_rows(comparison: Comparison) -> list[tuple[str, float, float]]:
    """What tokens per second are about, and how many there are before and after; nothing where that isn't known."""
    old, new = comparison.paces
    if old is None or new is None:
        return []
    pairs = (("tokens/s here", old.token, new.token), ("tokens/s, prompts", old.prompt, new.prompt))
    return [(what, before, after) for what, before, after in pairs if before and after]


def part_rows(diff: PlanDiff) -> list[tuple[str, int, int]]:
    """Bytes before and after of what is compared with what: of all tensors, and, where there are tables, without them.

    A file has a header besides; and two files of equal bytes may differ in what isn't a table.
    """
    sides = (diff.old, diff.new)
    whole = [sum(fate.nbytes for fate in side.tensors.values()) for side in sides]
    tables = [side.tables_nbytes for side in sides]
    rows = [("tensors", whole[0], whole[1])]
    if any(tables):
        rows.append(("without tables", whole[0] - tables[0], whole[1] - tables[1]))
    return rows


def unchanged_table(diff: PlanDiff) -> Table:
    """The tensors that stay as they are, in groups of the same kind."""
    rows = [
        (
            change.role,
            change.layers,
            str(len(change.members)),
            type_text(change.after),
            bytes_text(change.nbytes_after),
            (change.members[0].because, "dim"),
        )
        for change in diff.same
    ]
    columns: dict[str, Kind] = {"tensor": "name", "layers": "list", "count": "number", "type": "list"}
    return Table(columns | {"size": "number", "decided by": "code"}, rows)


def metadata_table(diff: PlanDiff) -> Table:
    """The keys whose values differ, with both values."""
    rows = [
        (key, (value_text(key, before), "dim"), value_text(key, after))
        for key, (before, after) in diff.metadata.items()
    ]
    return Table({"metadata": "code", "before": "text", "after": "text"}, rows)


def delta_text(nbytes: int) -> str:
    """A difference in bytes with its sign: "+1.20 MiB", "−12 B", "±0"."""
    if not nbytes:
        return "±0"
    return f"{'+' if nbytes > 0 else '−'}{bytes_text(abs(nbytes))}"


def percent_text(before: float, after: float) -> str:
    """A change in per cent: "+1.3 %"; "new" where there was nothing before."""
    if not before:
        return "new" if after else "±0"
    change = 100 * (after - before) / before
    if not change:
        return "±0"
    digits = 1 if abs(change) >= 0.1 else 3
    return f"{'+' if change > 0 else '−'}{abs(change):.{digits}f} %"


def bits_text(before: float | None, after: float | None) -> str:
    """Bits per weight before and after: "4.50 → 6.56"."""
    return " → ".join("–" if bits is None else f"{bits:.2f}" for bits in (before, after))


def cost_text(before: float | None, after: float | None) -> str:
    """Estimated errors before and after: "0.012 → 0.0098"; "–" where one isn't known."""
    if before is None and after is None:
        return "–"
    return " → ".join("–" if cost is None else f"{cost:.2g}" for cost in (before, after))


def type_text(fates: tuple[Fate, ...]) -> str:
    """The type that all of these tensors have, with what is unusual about it; "–" where there are no tensors."""
    if not fates:
        return "–"
    first = fates[0]
    return first.label if first.wanted is None else f"{first.label} instead of {first.wanted}"


def importance_note(change: Change) -> str:
    """What changes although the type doesn't: the importance, or the shape."""
    if not change.before or not change.after or change.before[0].label != change.after[0].label:
        return ""
    had, has = change.before[0].importance, change.after[0].importance
    if had != has:
        return "with importance now" if has else "without importance now"
    return "another shape" if change.before[0].tensor.shape != change.after[0].tensor.shape else ""


def reasons(diff: PlanDiff) -> dict[str, str]:
    """What decides now, and its reason, each once; for what is gone, what decided."""
    found: dict[str, str] = {}
    for change in diff.changes:
        first = change.members[0]
        if first.why:
            found.setdefault(first.because, first.why)
    return found


def idle(comparisons: list[Comparison]) -> list[RuleChange]:
    """What changed in the text of the recipes and does nothing to any of the models."""
    diffs = [comparison.diff for comparison in comparisons if comparison.diff is not None]
    if not diffs:
        return []
    found = []
    for place, change in enumerate(diffs[0].rules):
        if all(not diff.differs or diff.rules[place].idle for diff in diffs):
            found.append(change)
    return found


def effect_text(change: RuleChange) -> str:
    """What a difference in the text does to the model."""
    if change.kind == "reworded" or change.decides is None:
        return ""
    if not change.decides:
        return "decides nothing here"
    tensors = counted(change.decides, "tensor")
    which = "which changes" if change.decides == 1 else "which change"
    if change.changes == change.decides:
        return f"decides {tensors}, {which}"
    return f"decides {tensors}, {change.changes or 'none'} of which {'changes' if change.changes == 1 else 'change'}"


def value_text(key: str, value: GGUFValue | None) -> str:
    """A metadata value in a few words."""
    if value is None:
        return "–"
    if value.type is ValueType.ARRAY:
        return f"{len(value):,} values"
    decoded = value.decode()
    if key == "general.file_type" and (name := file_type_name(decoded)):
        return name
    text = str(decoded)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def problem_text(problem: Problem, side: str) -> str:
    """A problem without the name of the side that it is told of."""
    text = str(problem).removeprefix(f"{side}:").strip()
    return f"line {text}" if text != str(problem) and text[:1].isdigit() else text


def where_idle(comparisons: list[Comparison]) -> str:
    """Says on which models a rule has no effect."""
    if any(comparison.diff is None for comparison in comparisons):
        return "where it can be planned"
    return "on any of these models" if len(comparisons) > 1 else "on this model"


def _problems(error: QuantrecipeError | None) -> list[str]:
    return [] if error is None else [str(problem) for problem in error.problems]
