"""The contents of a model file as a person reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantrecipe.cli.contents import Contents, Line, roles_in, value_note, value_type
from quantrecipe.cli.errors import printable
from quantrecipe.cli.units import bytes_text, count_text
from quantrecipe.gguf.values import GGUFValue, ValueType

__all__ = [
    "render_metadata",
    "render_provenance",
    "render_roles",
    "render_tensors",
    "render_title",
    "render_types",
]

_LONGEST_TEXT = 160
_ITEMS = 8
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
    return Group(title, Text(" · ".join(printable(fact) for fact in facts if fact)))


def render_metadata(contents: Contents) -> RenderableType:
    """A line for each key; long texts and arrays abridged."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("key", overflow="fold")
    table.add_column("type", no_wrap=True, style="dim")
    table.add_column("value", ratio=1, overflow="fold")
    for key, value in contents.metadata.items():
        shown = Text(_abridged(value))
        if note := value_note(key, value):
            shown.append(f"  {note}", "dim")
        table.add_row(Text(printable(key)), value_type(value), shown)
    return table


def render_tensors(lines: Iterable[Line], *, grouped: bool) -> RenderableType:
    """A line for each tensor, or for tensors that differ in their numbers alone; below its name the stored one, where
    that is another.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", overflow="fold")
    if grouped:
        table.add_column("layers", max_width=20)
        table.add_column("n", justify="right", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    table.add_column("type", no_wrap=True, style="bold")
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for line in lines:
        limit = "≤ " if line.at_most else ""
        counts = (line.layers, str(line.count)) if grouped else ()
        shape = " × ".join(map(str, line.shape)) or "scalar"
        bits = f"{limit}{line.bits_per_weight:.2f}"
        name = Text(printable(line.name))
        if line.stored and line.stored != line.name:
            name.append(f"\n  {printable(_short(line.stored))}", "dim")
        table.add_row(name, *counts, shape, line.type, bits, limit + bytes_text(line.nbytes))
    return table


def render_types(contents: Contents) -> RenderableType:
    """What each type takes, the largest first."""
    by_type: dict[str, list[Line]] = {}
    for line in contents.shown:
        by_type.setdefault(line.type, []).append(line)
    data = sum(line.nbytes for line in contents.shown) or 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("type", "tensors", "weights", "bits", "size", "share"):
        table.add_column(heading, justify="left" if heading == "type" else "right", no_wrap=True)
    for name, lines in sorted(by_type.items(), key=lambda item: (-_nbytes(item[1]), item[0])):
        table.add_row(
            Text(printable(name), "bold"),
            str(len(lines)),
            count_text(sum(line.weights for line in lines)),
            f"{_bits(lines):.2f}",
            bytes_text(_nbytes(lines)),
            f"{100 * _nbytes(lines) / data:.1f} %",
        )
    return table


def render_roles(contents: Contents) -> RenderableType:
    """What each role takes: what a recipe's patterns are compared with."""
    roles = roles_in(contents.shown)
    weights = sum(role.weights for role in roles) or 1
    data = sum(role.nbytes for role in roles) or 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("role", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    table.add_column("type", overflow="fold", style="bold")
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for role in roles:
        table.add_row(
            Text(printable(role.role)),
            str(role.count),
            " × ".join(map(str, role.shape)) or "scalar",
            ", ".join(map(printable, role.types)),
            f"{100 * role.weights / weights:.1f} %",
            f"{100 * role.nbytes / data:.1f} %",
        )
    return table


def render_provenance(contents: Contents) -> RenderableType:
    """How the file was made, where it says so."""
    if contents.recipe is None:
        return Text("no recipe is recorded in it", "dim")
    name, version = contents.text("quantrecipe.recipe.name"), contents.text("quantrecipe.version")
    made = Text.assemble("says it was made by quantrecipe ", printable(version or "?"), " with the recipe ")
    made.append(printable(name or "?"), "bold")
    return Text.assemble(made, "; --recipe prints it, `quantrecipe verify` checks it")


def _short(stored: str) -> str:
    """A stored name as people say it: what leads to the layer, and `.weight`, say nothing that isn't beside it."""
    return _TO_THE_LAYER.sub("", stored).removesuffix(".weight")


def _abridged(value: GGUFValue) -> str:
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
