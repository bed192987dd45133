"""completion: what may stand at a place of a recipe's text, by the schema that editors use.

While somebody types, the text is no valid YAML. So it is read as far as it tells where the cursor is: lines by their
indentation, and what is in braces and brackets by those.

    rules:
      - {tensors: attn_v, type: Q|      frames: mapping at "rules", list, braces at "type"

From there the schema says which keys and values there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantrecipe.recipe.schema import schema_with

__all__ = ["Completion", "Item", "complete", "schema_for"]

_MOST_ITEMS = 100
_MOST_REFERENCES = 16  # that are followed one behind the other: a schema that goes in circles ends
_PLAIN_ENCODER = {"plain": "each format by itself"}

_KEY = re.compile(r"""("[^"]*"|'[^']*'|[^\s"'#&*!|>%@`{}\[\],:-][^:#]*?|-[^\s:#][^:#]*?)\s*:(?=\s|$)""")
_BLOCK_TEXT = re.compile(r":\s+[|>][-+\d]*\s*(#.*)?$")
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
    place = _place(lines[: number - 1], current[:cursor])
    if place is None:
        return Completion(line=number, start=cursor + 1, end=cursor + 1)
    rest = current[cursor:]
    end = cursor + len(_word(rest, place))
    nodes = list(_at(schema, place.path))
    items: list[Item] = []
    if place.key:
        taken = place.taken | _taken_behind(rest, lines[number:], place)
        items += _keys(nodes, schema, taken, bare=current[end:].lstrip().startswith(":"))
    if place.value:
        items += _values(nodes, schema)
    typed = current[place.start : cursor].strip("\"'")
    return Completion(
        line=number, start=place.start + 1, end=end + 1, items=tuple(_matching(items, typed)[:_MOST_ITEMS])
    )


# Where the cursor is


_Step = str | None
"""The way into a value: a key of a mapping, or None: what is in a list."""


@dataclass(slots=True)
class _Frame:
    """A mapping or a list that is open. sign: ":" and "-" by indentation, "{" and "[" by brackets

    indent: column of its keys or hyphens; of brackets it means nothing
    key:    whose value is being written
    """

    sign: str
    indent: int = 0
    key: str | None = None
    keys: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """What the cursor is at. start: where what is being typed begins, counting from 0

    key, value: whether a key, or a value, may stand there
    taken:      keys that stand before it in the same mapping
    indent:     of that mapping; None within brackets
    """

    path: tuple[_Step, ...]
    start: int
    key: bool
    value: bool
    taken: frozenset[str] = frozenset()
    indent: int | None = None


def _place(above: Sequence[str], before: str) -> _Place | None:
    """The place behind the lines above it, and what stands before it in its line; None in comments and long texts."""
    frames: list[_Frame] = []
    text_in: int | None = None  # the indentation of a key whose text stands in the lines below it
    for line in above:
        indent = len(line) - len(line.lstrip(" "))
        if not line.strip() or (text_in is not None and indent > text_in):
            continue
        text_in = None
        if not line.lstrip().startswith("#"):
            at = 0 if _in_brackets(frames) else _enter(frames, line)
            _scan(frames, line, at)
            if not _in_brackets(frames) and _BLOCK_TEXT.search(line):
                text_in = indent
    if text_in is not None and (not before.strip() or len(before) - len(before.lstrip(" ")) > text_in):
        return None
    inside = _in_brackets(frames)
    at = 0 if inside else _enter(frames, before)
    start = _scan(frames, before, at)
    if start is None:
        return None
    if _in_brackets(frames):
        return _in_bracket(frames, start)
    return None if inside else _by_indentation(frames, before, at)


def _in_bracket(frames: Sequence[_Frame], start: int) -> _Place:
    top = frames[-1]
    is_key = top.sign == "{" and top.key is None
    return _Place(
        path=_path(frames[:-1] if is_key else frames),
        start=start,
        key=is_key,
        value=not is_key,
        taken=frozenset(top.keys),
    )


def _by_indentation(frames: list[_Frame], before: str, at: int) -> _Place | None:
    """at: where what isn't a key or a hyphen begins: a value, or what may become a key."""
    start = at + len(before[at:]) - len(before[at:].lstrip())
    if before[:at].endswith(":"):  # behind a key
        if start == at:
            return None  # YAML wants a space there
        return _Place(path=_path(frames), start=start, key=False, value=True, indent=start)
    if before.endswith("-") and _is_dash(before, len(before) - 1):
        return None
    top = frames[-1] if frames else None
    if top is not None and top.sign == ":" and top.indent == start:
        return _Place(
            path=_path(frames[:-1]),
            start=start,
            key=True,
            value=len(frames) > 1 and frames[-2].sign == "-" and not top.keys,
            taken=frozenset(top.keys),
            indent=start,
        )
    return _Place(path=_path(frames), start=start, key=True, value=top is not None, indent=start)


def _path(frames: Sequence[_Frame]) -> tuple[_Step, ...]:
    return tuple(it.key if it.sign in ":{" else None for it in frames)


def _in_brackets(frames: Sequence[_Frame]) -> bool:
    return bool(frames) and frames[-1].sign in "{["


def _enter(frames: list[_Frame], line: str) -> int:
    """Go by a line's indentation, hyphens and key; where its value begins."""
    at = len(line) - len(line.lstrip(" "))
    dash = _is_dash(line, at)
    while frames:
        top = frames[-1]
        ends_list = top.sign == "-" and top.indent == at and not dash
        if top.indent <= at and not ends_list:
            break
        frames.pop()
    while _is_dash(line, at):
        if not (frames and frames[-1].sign == "-" and frames[-1].indent == at):
            frames.append(_Frame("-", at))
        at += 1 + len(line[at + 1 :]) - len(line[at + 1 :].lstrip(" "))
    if match := _KEY.match(line, at):
        key = match[1].strip("\"'")
        if not (frames and frames[-1].sign == ":" and frames[-1].indent == at):
            frames.append(_Frame(":", at))
        frames[-1].keys.add(key)
        frames[-1].key = key
        return match.end()
    return at


def _is_dash(line: str, at: int) -> bool:
    return line.startswith("-", at) and line[at + 1 : at + 2] in ("", " ")


def _scan(frames: list[_Frame], line: str, at: int) -> int | None:
    """Go by brackets, from a column on; where the last piece begins. None where the line ends within a comment."""
    start, quote = at, ""
    for place in range(at, len(line)):
        char = line[place]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and not line[start:place].strip():
            quote = char
        elif char == "#" and (place == 0 or line[place - 1].isspace()):
            return None
        elif char in "{[" and (_in_brackets(frames) or not line[start:place].strip()):
            frames.append(_Frame(char))
            start = place + 1
        elif _in_brackets(frames):
            top = frames[-1]
            if char in "}]":
                frames.pop()
                start = place + 1
            elif char == ",":
                top.key = None
                start = place + 1
            elif char == ":" and top.sign == "{" and line[place + 1 : place + 2] in ("", " "):
                top.key = line[start:place].strip().strip("\"'")
                top.keys.add(top.key)
                start = place + 1
    return start + len(line[start:]) - len(line[start:].lstrip())


def _word(rest: str, place: _Place) -> str:
    """What of the text behind the cursor belongs to what is being typed."""
    if place.key and (not place.value or re.match(r"[\w-]*\s*:(\s|$)", rest)):
        return re.split(r"[^\w-]", rest, maxsplit=1)[0]
    ends = r"[,\]}#]" if place.indent is None else r"\s#"
    return re.split(ends, rest, maxsplit=1)[0].rstrip()


def _taken_behind(rest: str, below: Sequence[str], place: _Place) -> frozenset[str]:
    """Keys that stand behind the cursor in the same mapping."""
    if place.indent is None:
        return frozenset(re.findall(r"(\w+)\s*:(?=\s)", rest.partition("}")[0]))
    found = set()
    for line in below:
        indent = len(line) - len(line.lstrip(" "))
        if line.strip() and indent < place.indent:
            break
        if indent == place.indent and (match := _KEY.match(line, indent)):
            found.add(match[1])
    return frozenset(found)


# What the schema says


_Node = Mapping[str, Any]


def _at(schema: _Node, path: Sequence[_Step]) -> Iterator[_Node]:
    """The schemas of what is at a path: there may be several ways to say it."""
    nodes = list(_ways(schema, schema))
    for step in path:
        nodes = [way for node in nodes for found in _inside(node, step) for way in _ways(found, schema)]
    yield from nodes


def _inside(node: _Node, step: _Step) -> Iterator[_Node]:
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
