"""Two files side by side: what only one of them has, and where tensors and metadata differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType

from quantrecipe.cli.errors import printable
from quantrecipe.cli.inspect.contents_table import abridged
from quantrecipe.cli.model_contents import Contents, Line, finite, value_type
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table
from quantrecipe.cli.units import bytes_text, counted, shape_text
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.plan.metadata import OURS
from quantrecipe.tensor import split_name

__all__ = ["Comparison", "compare", "render_comparison"]

_CHUNK = 1 << 23
"""Bytes of each file that are compared at a time."""
_LONG, _BEFORE = 60, 12
"""Characters of a long text that are shown, and how many of these stand before the first that differs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How two files differ.

    only:     tensors that only one of them has, those of the first file first
    changed:  tensors of another shape or type, with both lines
    same:     how many tensors agree in shape and type
    contents: names of tensors among these whose bytes differ; None if nobody looked
    metadata: keys with both values, None where a file hasn't the key
    """

    first: Contents
    second: Contents
    only: tuple[tuple[Line, ...], tuple[Line, ...]]
    changed: tuple[tuple[Line, Line], ...]
    same: int
    contents: tuple[str, ...] | None
    metadata: tuple[tuple[str, GGUFValue | None, GGUFValue | None], ...]

    @property
    def differs(self) -> bool:
        """Whether anything does that was looked at."""
        return bool(any(self.only) or self.changed or self.contents or self.metadata)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order; arrays are whole."""
        return {
            "first": self.first.path,
            "second": self.second.path,
            "only_first": [_plain(line) for line in self.only[0]],
            "only_second": [_plain(line) for line in self.only[1]],
            "changed": [
                {"name": old.name, "first": _plain(old), "second": _plain(new)} for old, new in self.changed
            ],
            "same": self.same,
            "contents_differ": self.contents,
            "metadata": {
                key: {"first": _value(old), "second": _value(new)} for key, old, new in self.metadata
            },
        }


def compare(
    first: Contents, second: Contents, *, data: bool, tell: Callable[[int], None] | None = None
) -> Comparison:
    """Hold two files against each other; with `data`, also the bytes of tensors that agree in all else.

    tell: how many bytes of each file were compared since it was called last. ModelError where they can't be read.
    """
    lines = [{line.name: line for line in it.shown} for it in (first, second)]
    only = tuple(
        tuple(line for name, line in these.items() if name not in others)
        for these, others in (lines, lines[::-1])
    )
    both = [(line, lines[1][name]) for name, line in lines[0].items() if name in lines[1]]
    changed = [(old, new) for old, new in both if (old.shape, old.type) != (new.shape, new.type)]
    alike = [(old, new) for old, new in both if (old.shape, old.type) == (new.shape, new.type)]
    contents = tuple(_differing(alike, tell or (lambda _: None))) if data else None
    return Comparison(
        first=first,
        second=second,
        only=(only[0], only[1]),
        changed=tuple(changed),
        same=len(alike),
        contents=contents,
        metadata=tuple(_metadata(first, second)),
    )


def _differing(pairs: Sequence[tuple[Line, Line]], tell: Callable[[int], None]) -> Iterator[str]:
    """Names of the tensors whose stored bytes differ."""
    rooms = [np.empty(_CHUNK, np.uint8) for _ in range(2)]
    with TensorReader() as reader:
        for old, new in pairs:
            if old.extent is None or new.extent is None:
                continue
            end = min(old.extent.nbytes, new.extent.nbytes)
            for begin in range(0, end, _CHUNK):
                pieces = [room[: min(_CHUNK, end - begin)] for room in rooms]
                for extent, piece, line in zip((old.extent, new.extent), pieces, (old, new), strict=True):
                    reader.read([extent], begin, piece, tensor=line.name)
                tell(pieces[0].size)
                if not np.array_equal(pieces[0], pieces[1]):
                    yield old.name
                    tell(end - begin - pieces[0].size)
                    break


def _metadata(first: Contents, second: Contents) -> Iterator[tuple[str, GGUFValue | None, GGUFValue | None]]:
    for key in dict.fromkeys((*first.metadata, *second.metadata)):
        old, new = first.metadata.get(key), second.metadata.get(key)
        if old != new:
            yield key, old, new


def render_comparison(it: Comparison) -> RenderableType:
    """Tables of what differs, and a sentence for what doesn't."""
    shown: list[RenderableType] = []
    if it.metadata:
        rows: list[tuple[Cell, ...]] = [
            (key, _shown(old, new), _shown(new, old)) for key, old, new in it.metadata if not _is_hashes(key)
        ]
        if rows:
            shown.append(Table({"key": "text", "first": "text", "second": "text"}, rows))
    if any(it.only) or it.changed:
        shown.append(Table(_COLUMNS, [*_rows(it)]))
    shown += [Paragraph(sentence) for sentence in _sentences(it)]
    return Group(*shown)


_COLUMNS: dict[str, Kind] = {
    "tensor": "name",
    "layers": "list",
    "count": "number",
    "first": "text",
    "second": "text",
    "size": "number",
}


def _rows(it: Comparison) -> Iterator[tuple[Cell, ...]]:
    """A line for tensors of one role that differ in the same way."""
    pairs: list[tuple[Line | None, Line | None]] = [
        *((old, new) for old, new in it.changed),
        *((line, None) for line in it.only[0]),
        *((None, line) for line in it.only[1]),
    ]
    groups: dict[tuple[str, str, str], list[tuple[Line | None, Line | None]]] = {}
    for old, new in pairs:
        line = old or new
        if line is not None:
            groups.setdefault((line.role, *_both(old, new)), []).append((old, new))
    for (role, first, second), members in groups.items():
        layers = [split_name(line.name)[0] for old, new in members if (line := old or new)]
        more = sum((new.nbytes if new else 0) - (old.nbytes if old else 0) for old, new in members)
        sign = "+" if more >= 0 else "-"
        numbers = layer_ranges(layer for layer in layers if layer is not None)
        yield role, numbers, str(len(members)), first, second, f"{sign}{bytes_text(abs(more))}"


def _both(old: Line | None, new: Line | None) -> tuple[str, str]:
    """What a line says of each side: the type, and the shape where that differs."""
    shapes = old is not None and new is not None and old.shape != new.shape
    first, second = (
        "not there" if line is None else f"{line.type} {shape_text(line.shape)}" if shapes else line.type
        for line in (old, new)
    )
    return first, second


def _sentences(it: Comparison) -> Iterator[str]:
    if not it.metadata and it.first.metadata:
        yield "the metadata is the same"
    if hashes := [key for key, *_ in it.metadata if _is_hashes(key)]:
        yield f"hashes that are recorded differ: {', '.join(hashes)}"
    if it.same:
        yield f"{counted(it.same, 'tensor')} of the same shape and type"
    if it.contents is None:
        return
    if not it.contents:
        yield "the bytes of these are the same"
        return
    roles: dict[str, list[int | None]] = {}
    for name in it.contents:
        layer, role = split_name(name)
        roles.setdefault(role, []).append(layer)
    for role, layers in roles.items():
        numbers = layer_ranges(layer for layer in layers if layer is not None)
        where = f" in the layers {numbers}" if numbers else ""
        yield f"other bytes: {role}{where}"


def _is_hashes(key: str) -> bool:
    """True for lists of hashes, which tell a person nothing but that they differ."""
    return key.startswith(OURS) and ".xxh3_" in key


def _shown(value: GGUFValue | None, other: GGUFValue | None) -> Cell:
    if value is None:
        return "not there", "dim"
    if other is None:
        return abridged(value)
    if value_type(value) != value_type(other):
        return f"{value_type(value)} {abridged(value)}"
    texts = (value.decode(), other.decode()) if value.type is ValueType.STRING else ("", "")
    return _where_they_part(*texts) if min(map(len, texts)) > _LONG else abridged(value)


def _where_they_part(text: str, other: str) -> str:
    """What a long text has there: recipes and chat templates often begin alike."""
    pairs = enumerate(zip(text, other, strict=False))
    apart = next((place for place, (one, two) in pairs if one != two), min(len(text), len(other)))
    start = max(0, apart - _BEFORE)
    piece = printable(text[start : start + _LONG])
    more = " …" if start + _LONG < len(text) else ""
    return f"{'… ' if start else ''}{piece}{more} ({len(text):,} characters)"


def _plain(line: Line) -> dict[str, Any]:
    return {"name": line.name, "shape": line.shape, "type": line.type, "nbytes": line.nbytes}


def _value(value: GGUFValue | None) -> dict[str, Any] | None:
    return None if value is None else {"type": value_type(value), "value": finite(value.decode())}
