"""JSON lines, read without trust: the values of a file, each with its line; or what is wrong with the line.

A value on each line is what data sets have. A file that is one document, a list of objects or a single one, is read the
same way: each item of the list counts as a line, and stands where it begins.

Python's reader takes more than JSON is: NaN, keys that occur twice, halves of surrogate pairs. Each of them is refused
here, since what becomes of it later (a tokeniser's input) can't be what was meant.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

__all__ = ["LineError", "is_json", "json_value", "json_values"]

_LONGEST = 1 << 26
"""Bytes of a line: the longest chats with tools have a few million."""

_LOOKED_AT = 50
"""Lines: what a file is shows in the first ones."""

_WHOLE = 1 << 26
"""Characters of a document that is parsed only to see what it is; a larger one is told by its lines."""

_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")
_SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BROKEN = "correct it, or take the line out"


class LineError(Exception):
    """What is wrong with one line, and what to do. Whoever knows the file makes a `Problem` of it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def is_json(text: str) -> bool:
    """Whether a text that doesn't say what it is is JSON lines or a JSON document: prose and programs aren't."""
    if text.lstrip("\ufeff \t\r\n")[:1] not in ("{", "["):
        return False
    lines = list(islice((line for line in text.lstrip("\ufeff").splitlines() if line.strip()), _LOOKED_AT))
    items = [_shape(line) for line in lines]
    if items[0] is dict or all(items):
        return True
    return len(text) <= _WHOLE and _shape(text) is not None


def json_values(data: bytes) -> Iterator[tuple[int, Any]]:
    """Each value with the line where it begins, counted from 1; a LineError in place of a value that can't be read."""
    data = data.removeprefix(_BOM)
    if _is_document(data):
        yield from _of_document(data)
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield number, _value(line)
            except LineError as error:
                yield number, error


def _is_document(data: bytes) -> bool:
    """One value over several lines, or a list; else there is a value on each line."""
    start = data.lstrip()
    if start[:1] == b"[":
        return True
    first = start.split(b"\n", 1)[0]
    if first.rstrip() == start.rstrip() or len(first) > _LONGEST:
        return False
    try:
        _value(first)
    except LineError:
        # The first line alone is broken, or it opens what the following lines close.
        return len(data) <= _WHOLE and _shape(data.decode("utf-8", "replace")) is not None
    return False


def _of_document(data: bytes) -> Iterator[tuple[int, Any]]:
    """The items of a list, or the one object that there is."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        yield data.count(b"\n", 0, error.start) + 1, _not_utf8(error)
        return
    at = _after_space(text, 0)
    listed = text[at] == "["
    line, counted = 1, 0
    at = _after_space(text, at + 1) if listed else at
    more = not listed or text[at : at + 1] != "]"
    while more:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = _decoded(text, at)
        except LineError as error:
            yield line, error
            return  # where the next item begins isn't known
        yield line, value
        at = _after_space(text, at)
        more = listed and text[at : at + 1] != "]"
        if more and text[at : at + 1] != ",":
            line += text.count("\n", counted, at)
            yield line, LineError("the list isn't closed, or lacks a comma", "correct it")
            return
        at = _after_space(text, at + 1) if more else at
    rest = _after_space(text, at + 1 if listed else at)
    if rest < len(text):
        yield (
            text.count("\n", 0, rest) + 1,
            LineError("there is something after the end of the JSON", _BROKEN),
        )


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(line: bytes) -> Any:
    """The value on a line. LineError where it is none."""
    if len(line) > _LONGEST:
        raise LineError(
            f"the line has {len(line):,} bytes (at most {_LONGEST:,})", "break it up into several"
        )
    try:
        return json_value(line.decode())
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from error


def json_value(text: str) -> Any:
    """The value that a text is. LineError where it is none, or more than one."""
    value, end = _decoded(text, _after_space(text, 0))
    if _after_space(text, end) < len(text):
        raise LineError(f"there is something after the JSON, from character {end + 1:,} on", _BROKEN)
    return value


def _decoded(text: str, at: int) -> tuple[Any, int]:
    """The value that begins there, checked, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, at)
        if _SUSPECT.search(text, at, end):
            _check_texts(value)
    except json.JSONDecodeError as error:
        what = f"is not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}, at column {error.colno:,}"
        raise LineError(what, _BROKEN) from error
    except RecursionError:
        raise LineError("the JSON is nested too deeply", _BROKEN) from None
    except ValueError as error:  # a number of thousands of digits
        raise LineError(f"holds a number that can't be read ({error})", _BROKEN) from error
    return value, end


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise LineError("holds a NUL character (\\u0000)", _BROKEN)
        if _SURROGATE.search(value):
            raise LineError(
                "holds half a surrogate pair, which is no character (\\ud800 to \\udfff)", _BROKEN
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _not_utf8(error: UnicodeDecodeError) -> LineError:
    what = f"isn't UTF-8: byte {error.start:,} of the line is {error.object[error.start]:#04x}"
    return LineError(what, "convert the file: iconv -f LATIN1 -t UTF-8 (or what it is in, for LATIN1)")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise LineError(f"has the key {twice!r:.60} twice", "keep one of them")
    return found


def _no_constant(name: str) -> Any:
    raise LineError(f"holds {name}, which JSON doesn't have", "write null, or leave the key out")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise LineError(f"holds the number {digits:.40}, which is too large", _BROKEN)
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def _shape(text: str) -> type | None:
    """dict or list; None for what is no JSON, or a bare text or number."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return type(value) if isinstance(value, dict | list) else None
