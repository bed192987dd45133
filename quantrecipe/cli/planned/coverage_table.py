"""The coverage of an importance matrix as a person reads it: one line for tensors that are treated alike.

A 60-layer model fits on a screen: tensors of one role share a line with the numbers of their layers, and roles
that have the same story in the same layers share one, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Cell, Paragraph, Table
from quantrecipe.importance.coverage import Coverage, TensorCoverage
from quantrecipe.importance.stand_ins import SHARED
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.tensor import split_name
from quantrecipe.wording import some_of

__all__ = ["render_coverage"]

_STYLES = {"covered": "green", "unseen experts": "yellow", "missing": "yellow", "misfit": "bold red"}
# Entries that belong to no tensor and are named; they are usually all of one kind.
_MOST_NAMES = 6


def render_coverage(coverage: Coverage) -> RenderableType:
    """A summary line; a table of what is not simply covered; which entries stand in; and which belong to no tensor."""
    parts: list[RenderableType] = [_summary(coverage)]
    gaps = [item for item in coverage.tensors if item.fit.status != "covered"]
    if gaps:
        parts.append(_table(gaps, coverage.nextn))
    parts += [Text(printable(line)) for line in _stand_ins(coverage.standing_in)]
    if coverage.unmatched:
        count = len(coverage.unmatched)
        entries = "1 entry belongs" if count == 1 else f"{count} entries belong"
        text = f"{entries} to no tensor of the model: {some_of(coverage.unmatched, _MOST_NAMES)}"
        parts.append(Paragraph(printable(text), "yellow"))
    return Group(*parts)


def _summary(coverage: Coverage) -> Paragraph:
    matrix = coverage.importance
    text = Text(printable(matrix.label), "bold")
    measured = [f"{len(matrix.entries)} entries"]
    if matrix.chunks:
        measured.append(f"{matrix.chunks} chunks" + (f" of {matrix.chunk_size}" if matrix.chunk_size else ""))
    if matrix.datasets:
        measured.append(printable(", ".join(matrix.datasets)))
    text.append(f" ({'; '.join(measured)}): ")
    covered, asked = len(coverage.covered), len(coverage.tensors)
    text.append(f"covers {covered} of {asked} tensors", "green" if covered == asked else "yellow")
    return Paragraph(text)


def _table(gaps: Sequence[TensorCoverage], nextn: Collection[int]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for roles, items in _groups(gaps, nextn):
        layers = layer_ranges(item.tensor.layer for item in items if item.tensor.layer is not None)
        story = _story(items, nextn), _STYLES[items[0].fit.status]
        rows.append((", ".join(roles), layers, str(len(items)), story))
    return Table({"tensor": "list", "layers": "list", "count": "number", "importance": "text"}, rows)


def _stand_ins(items: Sequence[TensorCoverage]) -> list[str]:
    """One line for all tensors of a layer that take one entry, in all layers where it is so."""
    layers: dict[tuple[tuple[str, ...], str], list[int]] = {}
    takers: dict[str, list[TensorCoverage]] = {}
    for item in items:
        takers.setdefault(item.fit.entry, []).append(item)
    for entry, members in takers.items():
        roles = tuple(member.tensor.role for member in members)
        found = layers.setdefault((roles, split_name(entry)[1]), [])
        found += [member.tensor.layer for member in members[:1] if member.tensor.layer is not None]
    return [
        f"{', '.join(roles)} {'take' if len(roles) > 1 else 'takes'} the entry of {role} "
        f"({'one for all heads' if set(roles) <= SHARED else 'same inputs'}): layers "
        f"{layer_ranges(found)}"
        for (roles, role), found in layers.items()
    ]


def _groups(
    gaps: Sequence[TensorCoverage], nextn: Collection[int]
) -> list[tuple[list[str], list[TensorCoverage]]]:
    """By role, status and kind of layer; then roles with the same layers and the same story together."""
    by_role: dict[tuple[str, str, bool, int, int], list[TensorCoverage]] = {}
    for item in gaps:
        sizes = (item.fit.expected, item.fit.found) if item.fit.status == "misfit" else (0, 0)
        key = item.tensor.role, item.fit.status, item.tensor.layer in nextn, *sizes
        by_role.setdefault(key, []).append(item)
    alike: dict[tuple[object, ...], tuple[list[str], list[TensorCoverage]]] = {}
    for (role, status, _, expected, found), items in by_role.items():
        layers = tuple(item.tensor.layer for item in items)
        story = _story(items, nextn)
        roles, members = alike.setdefault((status, layers, story, expected, found), ([], []))
        roles.append(role)
        members.extend(items)
    return list(alike.values())


def _story(items: Sequence[TensorCoverage], nextn: Collection[int]) -> str:
    fit = items[0].fit
    if fit.status == "missing":
        return "none: a layer for next-token prediction (MTP)" if items[0].tensor.layer in nextn else "none"
    if fit.status == "misfit":
        return f"of another size: {fit.found:,} values (expected: {fit.expected:,})"
    unseen = sum(len(item.fit.unseen) for item in items)
    experts = sum(item.tensor.experts for item in items)
    if experts == len(items):
        return "never seen in calibration"
    return f"{unseen:,} of {experts:,} experts never seen"
