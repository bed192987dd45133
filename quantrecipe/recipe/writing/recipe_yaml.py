"""The YAML of a recipe, from plain data. There is one writer, with two levels of detail:

for people      tensors: [head, "attn_{k,v}"]      quotes only where YAML would take a text for something else
for files       tensors: ["head", "attn_{k,v}"]    every text in quotes: the text that files record; its bytes stay
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["COMMENTS", "RecipeYaml", "comment", "one_or_list", "quoted", "recipe_yaml"]

COMMENTS = "#"
"""In the data of a rule, the key of the lines that stand above it as comments."""

_LINE = 110
"""A list of a rule that makes a longer line gets a line for each of its values."""
_PLAIN = re.compile(r"[A-Za-z_](?:[^\s:#]| (?=[^\s#])|:(?=[^\s,\]}[{]))*")
_ENDS_A_WORD = frozenset(",[]{}")
"""Characters that mean something inside of brackets."""
_NOT_TEXTS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_WORDS = frozenset({"file_type", "default", "fallback", "type"})
"""Keys whose values are names of types, which stand without quotes in every recipe."""
_LISTS = frozenset({"rules", "protect", "keep"})
_EMPTY: tuple[Any, ...] = (None, "", [], {}, ())


class RecipeYaml(NamedTuple):
    """A recipe's text; `lines` has the line of each key, and of each item of `rules`, by the key."""

    text: str
    lines: Mapping[str, Sequence[int]]


def recipe_yaml(
    keys: Mapping[str, Any],
    *,
    above: Sequence[str] = (),
    behind: Mapping[str, str] | None = None,
    blocks: Sequence[str] = ("metadata", "groups", "facts"),
    airy: bool = False,
    for_files: bool = False,
) -> RecipeYaml:
    """Write the recipe that says these keys, in their order. Empty values are left out, but for an empty kept list.

    above:     lines of comments above everything, without their `#`
    behind:    by key, a comment that stands behind its value
    blocks:    keys that get a line for each of their entries
    airy:      leaves an empty line before each block and each rule
    for_files: quotes every text
    """
    lines = [f"# {comment(line)}".rstrip() for line in above]
    lines.append("quantrecipe: 1")
    places: dict[str, list[int]] = {}
    gap = [""] if airy else []
    for key, value in keys.items():
        if key in _LISTS and value:
            lines += [*gap, f"{key}:"]
            for number, item in enumerate(value):
                lines += gap if number else []
                lines += [f"  # {comment(line)}".rstrip() for line in item.get(COMMENTS, ())]
                places.setdefault(key, []).append(len(lines) + 1)
                lines += _item_lines(item, for_files=for_files)
        elif key in ("protect", "keep"):
            lines += [*gap, f"{key}: []"]
        elif value in _EMPTY:
            continue
        elif key in blocks:
            lines += [*gap, f"{key}:"]
            lines += [
                f"  {_flow(k, for_files=for_files)}: {_flow(v, for_files=for_files)}"
                for k, v in value.items()
            ]
        else:
            end = f"  # {comment(behind[key])}" if behind and key in behind else ""
            lines.append(f"{key}: {_value(key, value, for_files=for_files)}{end}")
            places[key] = [len(lines)]
    return RecipeYaml("\n".join(lines) + "\n", places)


def one_or_list(texts: Sequence[str]) -> str | list[str]:
    """Return a single text by itself, and several as a list."""
    return texts[0] if len(texts) == 1 else list(texts)


def comment(line: str) -> str:
    """Return a line that can stand in a comment: it ends nothing but itself, and has nothing that YAML refuses."""
    return "".join(char if char.isprintable() else "?" for char in line)


def quoted(text: str) -> str:
    """Return the text in double quotes, with escapes that every YAML reader knows."""
    return '"' + "".join(map(_escape, text)) + '"'


def _item_lines(keys: Mapping[str, Any], *, for_files: bool) -> Iterator[str]:
    """Yield the lines of an item of a list, indented by two."""
    start = "  - "
    for key, value in keys.items():
        if key == COMMENTS or value in _EMPTY or value is False:
            continue
        line = f"{start}{key}: {_value(key, value, for_files=for_files)}"
        if len(line) > _LINE and isinstance(value, list) and not for_files:
            yield f"{start}{key}:"
            yield from (f"      - {_flow(part)}" for part in value)
        else:
            yield line
        start = "    "


def _value(key: str, value: Any, *, for_files: bool) -> str:
    return str(value) if for_files and key in _WORDS else _flow(value, for_files=for_files)


def _flow(value: Any, *, inside: bool = False, for_files: bool = False) -> str:
    """Write a value on one line; `inside` is True within brackets."""

    def part(it: Any) -> str:
        return _flow(it, inside=True, for_files=for_files)

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{part(key)}: {part(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(part, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    return quoted(value) if for_files else _text(value, inside=inside)


def _text(text: str, *, inside: bool) -> str:
    """Write a text, in quotes only if YAML would take it for something else."""
    if "\\" in text and text.isprintable():
        return "'" + text.replace("'", "''") + "'"  # regular expressions stay readable
    plain = _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _NOT_TEXTS
    if plain and not (inside and _ENDS_A_WORD.intersection(text)):
        return text
    return quoted(text)


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
