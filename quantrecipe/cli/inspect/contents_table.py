"""The contents of a model file as a person reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.model_contents import Contents, Line, roles_in, value_note, value_type
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table, numbers
from quantrecipe.cli.units import bytes_text, count_text, shape_text
from quantrecipe.gguf.values import GGUFValue, ValueType

__all__ = [
    "abridged",
    "render_metadata",
    "render_provenance",
    "render_roles",
    "render_tensors",
    "render_title",
    "render_types",
]

# Characters of a metadata text: two lines of a terminal; chat templates have thousands.
_LONGEST_TEXT = 160
# Items of an array that are shown: vocabularies have hundreds of thousands.
_ITEMS = 8
# What leads to a layer's number in the names of Hugging Face's tensors.
_TO_THE_LAYER = re.compile(r"(?:\w+\.)*layers\.(?:[0-9]+|\*)\.")


def render_title(contents: Contents) -> RenderableType:
    """The file's name, and what it holds, in a few words."""
    weights = sum(line.weights for line in contents.tensors)
    size = sum(contents.files.values())
    without = contents.container == "shapes"
    facts = [
        "shapes, without weights" if without else contents.container,
        contents.text("general.architecture") or "",
        f"{count_text(weights)} weights in {len(contents.tensors)} tensors"
        if contents.tensors
        else "no tensors",
        bytes_text(size) + (f" in {len(contents.files)} files" if len(contents.files) > 1 else "")
        if not without
        else "",
        f"{_bits(contents.tensors):.3f} bits per weight" if weights else "",
    ]
    name = contents.text("general.name")
    title = Text(printable(contents.path.name or str(contents.path)), "bold")
    if name:
        title.append(f"  {printable(name)}", "not bold dim")
    said = " · ".join(printable(fact) for fact in facts if fact)
    return Group(Paragraph(title), Paragraph(said, indent=0))


def render_metadata(contents: Contents) -> RenderableType:
    """A line for each key; long texts and arrays abridged."""
    rows: list[tuple[Cell, ...]] = []
    for key, value in contents.metadata.items():
        note = value_note(key, value)
        shown = Text.assemble(abridged(value), (f"  {note}" if note else "", "dim"))
        rows.append((key, (value_type(value), "dim"), shown))
    return Table({"key": "text", "type": "word", "value": "text"}, rows)


def render_tensors(lines: Iterable[Line], *, grouped: bool) -> RenderableType:
    """A line for each tensor, or for tensors that differ in their numbers alone; with the stored name, where that is
    another.
    """
    lines = list(lines)
    renamed = any(line.stored and line.stored != line.name for line in lines)
    rows: list[tuple[Cell, ...]] = []
    for line in lines:
        limit = "≤ " if line.at_most else ""
        counts = (line.layers, str(line.count)) if grouped else ()
        shape = shape_text(line.shape)
        bits = f"{limit}{line.bits_per_weight:.2f}"
        stored = ((_short(line.stored or ""), "dim"),) if renamed else ()
        size = limit + bytes_text(line.nbytes)
        rows.append((line.name, *counts, shape, (line.type, "bold"), bits, size, *stored))
    many: dict[str, Kind] = {"layers": "list", "count": "number"} if grouped else {}
    last: dict[str, Kind] = {"stored as": "name"} if renamed else {}
    return Table(
        {
            "tensor": "name",
            **many,
            "shape": "word",
            "type": "word",
            "bits/weight": "number",
            "size": "number",
            **last,
        },
        rows,
    )


def render_types(contents: Contents) -> RenderableType:
    """What each type takes, the largest first."""
    by_type: dict[str, list[Line]] = {}
    for line in contents.shown:
        by_type.setdefault(line.type, []).append(line)
    data = sum(line.nbytes for line in contents.shown) or 1
    rows = [
        (
            (name, "bold"),
            str(len(lines)),
            count_text(sum(line.weights for line in lines)),
            f"{_bits(lines):.2f}",
            bytes_text(_nbytes(lines)),
            f"{100 * _nbytes(lines) / data:.1f}",
        )
        for name, lines in sorted(by_type.items(), key=lambda item: (-_nbytes(item[1]), item[0]))
    ]
    return Table({"type": "word", **numbers("tensors", "weights", "bits/weight", "size", "share %")}, rows)


def render_roles(contents: Contents) -> RenderableType:
    """What each role takes: what a recipe's patterns are compared with."""
    roles = roles_in(contents.shown)
    weights = sum(role.weights for role in roles) or 1
    data = sum(role.nbytes for role in roles) or 1
    rows = [
        (
            role.role,
            str(role.count),
            shape_text(role.shape),
            (", ".join(role.types), "bold"),
            f"{100 * role.weights / weights:.1f}",
            f"{100 * role.nbytes / data:.1f}",
        )
        for role in roles
    ]
    return Table(
        {
            "role": "name",
            "count": "number",
            "shape": "word",
            "type": "list",
            "weights %": "number",
            "bytes %": "number",
        },
        rows,
    )


def render_provenance(contents: Contents, since: str = "") -> RenderableType:
    """How the file was made, where it says so. `since`: what has become of it, "" where it is as it was written."""
    if contents.recipe is None:
        return Paragraph("no recipe is recorded in it", "dim")
    name, version = contents.text("quantrecipe.recipe.name"), contents.text("quantrecipe.version")
    made = Text.assemble("says it was made by quantrecipe ", printable(version or "?"), " with the recipe ")
    made.append(printable(name or "?"), "bold")
    if since:
        return Paragraph(Text.assemble(made, "; ", (printable(since), "bold yellow")))
    return Paragraph(Text.assemble(made, "; --recipe prints it, `quantrecipe verify` checks it"))


def _short(stored: str) -> str:
    """A stored name as people say it: what leads to the layer, and `.weight`, say nothing that isn't beside it."""
    return _TO_THE_LAYER.sub("", stored).removesuffix(".weight")


def abridged(value: GGUFValue) -> str:
    """A value of the metadata on two lines of a terminal at most, with nothing in it that moves the cursor."""
    if value.type is not ValueType.ARRAY:
        return _cut(_item(value.decode(), quoted=False))
    items = [_item(item, quoted=True) for item in value.first(_ITEMS)]
    return _cut(", ".join(items) + (", …" if len(value) > _ITEMS else ""))


def _item(item: Any, *, quoted: bool) -> str:
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=False) if quoted else item
    if isinstance(item, bool):
        return str(item).lower()
    return f"{item:.7g}" if isinstance(item, float) else str(item)


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return printable(text)
    return f"{printable(text[:_LONGEST_TEXT])} … ({len(text):,} characters)"


def _nbytes(lines: Iterable[Line]) -> int:
    return sum(line.nbytes for line in lines)


def _bits(lines: Iterable[Line]) -> float:
    lines = tuple(lines)
    return 8 * _nbytes(lines) / (sum(line.weights for line in lines) or 1)
