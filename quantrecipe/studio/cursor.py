"""cursor: where in a recipe the cursor is, by a text that is no valid YAML while somebody types it.

Lines are read by their indentation, and what is in braces and brackets by those.

    rules:
      - {tensors: attn_v, type: Q|      frames: mapping at "rules", list, braces at "type"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Place", "Step", "place_of", "taken_behind", "word_behind"]

_KEY = re.compile(r"""("[^"]*"|'[^']*'|[^\s"'#&*!|>%@`{}\[\],:-][^:#]*?|-[^\s:#][^:#]*?)\s*:(?=\s|$)""")
_BLOCK_TEXT = re.compile(r":\s+[|>][-+\d]*\s*(#.*)?$")

Step = str | None
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
class Place:
    """What the cursor is at. start: where what is being typed begins, counting from 0

    key, value: whether a key, or a value, may stand there
    taken:      keys that stand before it in the same mapping
    indent:     of that mapping; None within brackets
    """

    path: tuple[Step, ...]
    start: int
    key: bool
    value: bool
    taken: frozenset[str] = frozenset()
    indent: int | None = None


def place_of(above: Sequence[str], before: str) -> Place | None:
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


def _in_bracket(frames: Sequence[_Frame], start: int) -> Place:
    top = frames[-1]
    is_key = top.sign == "{" and top.key is None
    return Place(
        path=_path(frames[:-1] if is_key else frames),
        start=start,
        key=is_key,
        value=not is_key,
        taken=frozenset(top.keys),
    )


def _by_indentation(frames: list[_Frame], before: str, at: int) -> Place | None:
    """at: where what isn't a key or a hyphen begins: a value, or what may become a key."""
    start = at + len(before[at:]) - len(before[at:].lstrip())
    if before[:at].endswith(":"):  # behind a key
        if start == at:
            return None  # YAML wants a space there
        return Place(path=_path(frames), start=start, key=False, value=True, indent=start)
    if before.endswith("-") and _is_dash(before, len(before) - 1):
        return None
    top = frames[-1] if frames else None
    if top is not None and top.sign == ":" and top.indent == start:
        return Place(
            path=_path(frames[:-1]),
            start=start,
            key=True,
            value=len(frames) > 1 and frames[-2].sign == "-" and not top.keys,
            taken=frozenset(top.keys),
            indent=start,
        )
    return Place(path=_path(frames), start=start, key=True, value=top is not None, indent=start)


def _path(frames: Sequence[_Frame]) -> tuple[Step, ...]:
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


def word_behind(rest: str, place: Place) -> str:
    """What of the text behind the cursor belongs to what is being typed."""
    if place.key and (not place.value or re.match(r"[\w-]*\s*:(\s|$)", rest)):
        return re.split(r"[^\w-]", rest, maxsplit=1)[0]
    ends = r"[,\]}#]" if place.indent is None else r"\s#"
    return re.split(ends, rest, maxsplit=1)[0].rstrip()


def taken_behind(rest: str, below: Sequence[str], place: Place) -> frozenset[str]:
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
