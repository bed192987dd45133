"""JSON lines: each value with its line, and what Python's reader would let pass is refused at its line."""

from __future__ import annotations

import json

import pytest

from quantrecipe.texts.json_lines import LineError, is_json, json_value, json_values

DEEP = "[" * 200_000 + "]" * 200_000

WRONG = {
    "cut short": (b'{"text": "a', "is not valid JSON"),
    "no quotes": (b"{text: 1}", "is not valid JSON: expecting property name"),
    "two values": (b'{"a": 1} {"b": 2}', "something after the JSON, from character 9 on"),
    "duplicate key": (b'{"id": 1, "text": "a", "text": "b"}', "has the key 'text' twice"),
    "duplicate key inside": (b'{"a": {"b": 1, "b": 1}}', "has the key 'b' twice"),
    "nan": (b'{"text": NaN}', "holds NaN"),
    "infinity": (b'{"text": -Infinity}', "holds -Infinity"),
    "large float": (b'{"text": 1e999}', "too large"),
    "long integer": (b'{"a": ' + b"9" * 5000 + b"}", "a number that can't be read"),
    "surrogate": (b'{"text": "\\ud800"}', "half a surrogate pair"),
    "surrogate in a key": (b'{"\\udc00": 1}', "half a surrogate pair"),
    "surrogate in a list": (b'{"a": ["\\ud83d", "\\ude00"]}', "half a surrogate pair"),
    "nul": (b'{"text": "a\\u0000b"}', "a NUL character"),
    "raw nul": (b'{"text": "a\0b"}', "is not valid JSON: invalid control character"),
    "not utf-8": (b'{"text": "\xff"}', "isn't UTF-8: byte 10 of the line is 0xff"),
    "deep": (b'{"a": ' + DEEP.encode() + b"}", "nested too deeply"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_line_is_named_and_the_others_are_read(kind: str) -> None:
    line, what = WRONG[kind]
    values = list(json_values(b'{"a": 1}\n\n' + line + b'\n{"b": 2}\n'))
    assert [number for number, _ in values] == [1, 3, 4]
    assert values[0][1] == {"a": 1}
    assert values[2][1] == {"b": 2}
    assert isinstance(values[1][1], LineError)
    assert what in values[1][1].what
    assert values[1][1].remedy


def test_a_whole_pair_of_surrogates_is_a_character() -> None:
    assert json_value('"\\ud83d\\ude00"') == "😀"


def test_marks_and_line_ends_of_windows() -> None:
    data = '\ufeff{"a": "ä"}\r\n\r\n{"b": 2}\r\n'.encode()
    assert list(json_values(data)) == [(1, {"a": "ä"}), (3, {"b": 2})]


def test_other_line_ends_of_unicode_are_part_of_a_text() -> None:
    data = '{"a": "one\u2028two\u0085three"}\n{"b": 1}'.encode()
    assert list(json_values(data)) == [(1, {"a": "one\u2028two\u0085three"}), (2, {"b": 1})]


def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantrecipe.texts.json_lines._LONGEST", 100)
    values = dict(json_values(b'{"a": 1}\n{"b": "' + b"x" * 100 + b'"}\n'))
    assert "the line has 109 bytes (at most 100)" in values[2].what


def test_a_list_has_its_items_where_they_begin() -> None:
    items = [{"a": 1}, {"b": [1, 2]}, {"c": "]"}]
    assert list(json_values(json.dumps(items).encode())) == [(1, item) for item in items]
    indented = json.dumps(items, indent=1).encode()
    assert list(json_values(indented)) == [(2, items[0]), (5, items[1]), (11, items[2])]
    assert list(json_values(b"\n [ ]\n")) == []


def test_an_object_over_several_lines_is_one() -> None:
    assert list(json_values(json.dumps({"a": 1, "b": 2}, indent=2).encode())) == [(1, {"a": 1, "b": 2})]


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b'[\n{"a": 1},\n{"a": NaN},\n{"b": 1}]', 3, "holds NaN"),
        (b'[\n{"a": 1}\n{"b": 2}]', 3, "lacks a comma"),
        (b'[\n{"a": 1}', 2, "isn't closed"),
        (b'[\n{"a": 1},\n]', 3, "is not valid JSON"),
        (b'[{"a": 1}]\n{"b": 1}', 2, "something after the end"),
        (b'[{"a": 1},\n{"a": "\xff"}]', 2, "isn't UTF-8"),
    ],
)
def test_a_wrong_item_of_a_list_is_named(data: bytes, line: int, what: str) -> None:
    number, error = list(json_values(data))[-1]
    assert number == line
    assert isinstance(error, LineError)
    assert what in error.what


IS_JSON = {
    "lines": ('{"a": 1}\n{"b": 2}\n', True),
    "first line only": ('{"a": 1}\n{"b": \n', True),
    "a mark": ('\ufeff{"a": 1}\n', True),
    "lists": ("[1]\n[2]\n", True),
    "document": ('{\n "a": 1\n}', True),
    "links": ("[one](a.html)\n[two](b.html)\n", False),
    "code": ('{\n    "name": x,\n}\n', False),
    "prose": ('An object is written so:\n{"a": 1}\n', False),
    "a note": ("[1] the first\n", False),
    "a number above prose": ("[1]\nprose\n", False),
    "deep": (DEEP, False),
    "nothing": ("", False),
}


@pytest.mark.parametrize("kind", IS_JSON)
def test_what_is_json_is_told_from_texts(kind: str) -> None:
    text, expected = IS_JSON[kind]
    assert is_json(text) is expected
