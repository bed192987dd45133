"""Values as YAML on one line: in quotes only where a reader would need them, or always."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["comment", "flow", "item_lines", "one_or_list", "quoted"]

_LINE = 110
_PLAIN = re.compile(r"[A-Za-z_](?:[^\s:#]| (?=[^\s#])|:(?=[^\s,\]}[{]))*")
_ENDS_A_WORD = frozenset(",[]{}")
"""Characters that mean something inside of brackets."""
_NOT_TEXTS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def item_lines(keys: Mapping[str, Any]) -> Iterator[str]:
    """An item of a list, indented by two; empty values are left out, and long lists get a line for each of theirs."""
    start = "  - "
    for key, value in keys.items():
        if value in (None, "", [], {}, (), False):
            continue
        line = f"{start}{key}: {flow(value)}"
        if len(line) > _LINE and isinstance(value, list):
            yield f"{start}{key}:"
            yield from (f"      - {flow(part)}" for part in value)
        else:
            yield line
        start = "    "


def one_or_list(texts: Sequence[str]) -> str | list[str]:
    """A text by itself where there is only one."""
    return texts[0] if len(texts) == 1 else list(texts)


def flow(value: Any, *, inside: bool = False) -> str:
    """A value on one line. `inside`: of brackets."""
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{flow(key, inside=True)}: {flow(item, inside=True)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item, inside=True) for item in value) + "]"
    return _text(value, inside=inside) if isinstance(value, str) else json.dumps(value)


def _text(text: str, *, inside: bool) -> str:
    """A text, in quotes only where YAML would take it for something else."""
    if "\\" in text and text.isprintable():
        return "'" + text.replace("'", "''") + "'"  # regular expressions stay readable
    plain = _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _NOT_TEXTS
    if plain and not (inside and _ENDS_A_WORD.intersection(text)):
        return text
    return quoted(text)


def comment(line: str) -> str:
    """A line that ends nothing but itself, and holds nothing that YAML refuses even in comments."""
    return "".join(char if char.isprintable() else "?" for char in line)


def quoted(text: str) -> str:
    """The text in double quotes, with escapes that every YAML reader knows."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
