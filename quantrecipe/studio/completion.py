"""completion: what may stand at a place of a recipe's text, by the schema that editors use.

While somebody types, the text is no valid YAML. So it is read as far as it tells where the cursor is (`cursor`). From
there the schema says which keys and values there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantrecipe.recipe.schema import schema_with
from quantrecipe.studio.cursor import Step, place_of, taken_behind, word_behind

__all__ = ["Completion", "Item", "complete", "schema_for"]

_MOST_ITEMS = 100
_MOST_REFERENCES = 16  # that are followed one behind the other: a schema that goes in circles ends
_PLAIN_ENCODER = {"plain": "each format by itself"}

_PLAIN = re.compile(r"[A-Za-z_./$][\w./$+*<=-]*( [\w./$+*<=-]+)*", re.ASCII)
_NO_TEXT = re.compile(r"true|false|null|yes|no|on|off|y|n", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that may stand there: as it is listed, what is inserted, and what it means."""

    label: str
    insert: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What may stand at a place. start, end: columns of what it replaces, which count from 1"""

    line: int
    start: int
    end: int
    items: tuple[Item, ...] = ()


def schema_for(
    formats: Mapping[str, str], recipes: Mapping[str, str], roles: Iterable[str], encoders: Mapping[str, str]
) -> dict[str, Any]:
    """The schema of recipes with these names, each with a line about it; roles are those of the model."""
    found = schema_with(formats, recipes, roles)
    names = [{"const": name, "description": said} for name, said in (_PLAIN_ENCODER | dict(encoders)).items()]
    text, mapping = found["$defs"]["encoder"]["oneOf"]
    name = {**mapping["properties"]["name"], "anyOf": names}
    encoder = {"oneOf": [*names, text, {**mapping, "properties": {**mapping["properties"], "name": name}}]}
    return {**found, "$defs": {**found["$defs"], "encoder": encoder}}


def complete(text: str, line: int, column: int, schema: Mapping[str, Any]) -> Completion:
    """What may stand at a place; line and column count from 1, and the column is that of the cursor."""
    lines = text.split("\n")
    number = min(max(1, line), len(lines))
    current = lines[number - 1]
    cursor = min(max(1, column), len(current) + 1) - 1
    place = place_of(lines[: number - 1], current[:cursor])
    if place is None:
        return Completion(line=number, start=cursor + 1, end=cursor + 1)
    rest = current[cursor:]
    end = cursor + len(word_behind(rest, place))
    nodes = list(_at(schema, place.path))
    items: list[Item] = []
    if place.key:
        taken = place.taken | taken_behind(rest, lines[number:], place)
        items += _keys(nodes, schema, taken, bare=current[end:].lstrip().startswith(":"))
    if place.value:
        items += _values(nodes, schema)
    typed = current[place.start : cursor].strip("\"'")
    return Completion(
        line=number, start=place.start + 1, end=end + 1, items=tuple(_matching(items, typed)[:_MOST_ITEMS])
    )


_Node = Mapping[str, Any]


def _at(schema: _Node, path: Sequence[Step]) -> Iterator[_Node]:
    """The schemas of what is at a path: there may be several ways to say it."""
    nodes = list(_ways(schema, schema))
    for step in path:
        nodes = [way for node in nodes for found in _inside(node, step) for way in _ways(found, schema)]
    yield from nodes


def _inside(node: _Node, step: Step) -> Iterator[_Node]:
    if step is None:
        if "items" in node:
            yield node["items"]
    elif step in node.get("properties", {}):
        yield node["properties"][step]
    elif isinstance(other := node.get("additionalProperties"), dict):
        yield other


def _ways(node: _Node, schema: _Node, depth: int = 0) -> Iterator[_Node]:
    """A schema, and all that it refers to or offers as alternatives."""
    if depth > _MOST_REFERENCES:
        return
    yield node
    if (ref := node.get("$ref")) is not None:
        target: Any = schema
        for part in ref.removeprefix("#/").split("/"):
            target = target[part]
        yield from _ways(target, schema, depth + 1)
    for key in ("oneOf", "anyOf", "allOf"):
        for other in node.get(key, ()):
            yield from _ways(other, schema, depth + 1)


def _keys(nodes: Sequence[_Node], schema: _Node, taken: frozenset[str], *, bare: bool) -> Iterator[Item]:
    """Keys that aren't there yet. bare: a colon stands behind the place already"""
    seen = set(taken)
    for node in nodes:
        for name, its in node.get("properties", {}).items():
            if name not in seen and not its.get("deprecated"):
                seen.add(name)
                yield Item(label=name, insert=name if bare else f"{name}: ", detail=_detail(its))


def _values(nodes: Sequence[_Node], schema: _Node) -> Iterator[Item]:
    """Values that are proposed: of names, the ones that there are."""
    seen = set()
    for node in nodes:
        offered = [(node["const"], _detail(node))] if "const" in node else []
        offered += [(value, "") for value in node.get("enum", ())]
        if node.get("type") == "boolean":
            offered += [(True, ""), (False, "")]
        for value, detail in offered:
            if (text := _written(value)) not in seen:
                seen.add(text)
                yield Item(label=text.strip('"'), insert=text, detail=detail)


def _detail(node: _Node) -> str:
    return str(node.get("description", ""))


def _written(value: Any) -> str:
    """A value as YAML: quoted where it would be read as something else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not isinstance(value, str) or (_PLAIN.fullmatch(text) and not _NO_TEXT.fullmatch(text)):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _matching(items: Iterable[Item], typed: str) -> list[Item]:
    """Those that begin with what is typed, then those of which a part does, then those that have it in them."""
    wanted = typed.lower()
    ranks: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
    for item in items:
        label = item.label.lower()
        if label.startswith(wanted):
            ranks[0].append(item)
        elif re.search(rf"[/_.-]{re.escape(wanted)}", label):
            ranks[1].append(item)
        elif wanted in label:
            ranks[2].append(item)
    return [item for rank in ranks for item in rank]
