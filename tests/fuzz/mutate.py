"""Mutations of inputs: of bytes, and of JSON as JSON, so that what is made gets past the parser.

    mutate(data, draw, others, words)    the same again, changed in one to four places

JSON is changed where a line, or all of it, is JSON; a first byte, or a first line, that isn't part of it stays.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["HOSTILE", "mutate", "read_words"]

HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        255,
        2**31,
        -(2**31),
        2**32,
        2**53,
        2**63,
        -(2**63),
        2**64,
        10**30,
        10**400,
    ),
    *(0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
    *(
        "",
        " ",
        "a",
        "0",
        "-1",
        "\0",
        "\x1b[31m",
        "\ud800",
        "\udc00x",
        "\u202e",
        "a" * 300,
        "../..",
        "*",
        "\n",
        "é" * 40,
    ),
    *([], {}, [[]], [0], [None], [""], {"": None}, {"a": {"a": {}}}, [1, "a", None], ["a", "b"], [2**63, -1]),
)
"""Values that readers of JSON stumble over."""

_LARGEST = 1 << 16
_NO_JSON = (ValueError, OverflowError, RecursionError)


def read_words(text: str) -> tuple[bytes, ...]:
    """The words of a dictionary as libFuzzer has it: a quoted text on each line, and comments."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(
        line[1:-1].encode().decode("unicode_escape").encode("latin-1") for line in lines if line[:1] == '"'
    )


def mutate(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Another input that resembles this one; others: what parts may be taken of."""
    if draw.random() < 0.6:
        for skipped in (b"", data[:1], data[: data.find(b"\n") + 1]):
            changed = _json(data[len(skipped) :], draw)
            if changed is not None:
                return (skipped + changed)[:_LARGEST]
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(_OF_BYTES)(data, draw, others, words)
    return data[:_LARGEST]


def _json(data: bytes, draw: random.Random) -> bytes | None:
    """The same with a value changed in it, or in one of its lines; None where it is no JSON."""
    if data.lstrip()[:1] not in (b"{", b"["):
        return None
    lines = data.split(b"\n")
    try:
        return _dumped(_changed(json.loads(data), draw), draw)
    except _NO_JSON:
        if len(lines) < 2:
            return None
    place = draw.randrange(len(lines))
    try:
        lines[place] = _dumped(_changed(json.loads(lines[place]), draw), draw)
    except _NO_JSON:
        return None
    return b"\n".join(lines)


def _dumped(value: Any, draw: random.Random) -> bytes:
    text = json.dumps(value, ensure_ascii=draw.random() < 0.9)
    if draw.random() < 0.02:
        text = text.replace("null", "9" * draw.choice((400, 5000)), 1)
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, draw: random.Random) -> Any:
    """The value with one to three of its parts changed. It is a fresh one, and may be changed."""
    holder = [value]
    for _ in range(draw.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        _collect(holder, places)
        inside, key = draw.choice(places)
        draw.choice(_OF_JSON)(inside, key, draw, places)
    return holder[0]


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    """Every place that holds a value: (what it is in, its key there)."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        places.append((value, key))
        _collect(value[key], places)


def _hostile(draw: random.Random) -> Any:
    return copy.deepcopy(draw.choice(HOSTILE))  # what is put into a value may be changed there


def _replace(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    inside[key] = _hostile(draw)


def _take_from_elsewhere(
    inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]
) -> None:
    other, there = draw.choice(places)
    inside[key] = json.loads(json.dumps(other[there])) if there in _keys(other) else None


def _keys(value: Any) -> Any:
    return value if isinstance(value, dict) else range(len(value))


def _remove(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    if len(inside) > 1 and key in _keys(inside):
        del inside[key]


def _add(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    if isinstance(inside, dict):
        inside[draw.choice(("a", "", "\ud800", "x" * 300, str(key) + "x"))] = _hostile(draw)
    elif key in _keys(inside):
        inside.insert(key, _hostile(draw))


def _rename(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    _, there = draw.choice(places)
    if isinstance(inside, dict) and key in inside and isinstance(there, str):
        inside[there] = inside.pop(key)


def _nudge(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    value = inside[key] if key in _keys(inside) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _replace(inside, key, draw, places)
    inside[key] = draw.choice((value + 1, value - 1, -value, value * 2, value * 1000, value / 3))
    return None


def _nest(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    if key in _keys(inside):
        value = inside[key]
        for _ in range(draw.choice((1, 1, 2, 40, 900))):
            value = [value] if draw.random() < 0.5 else {"a": value}
        inside[key] = value


def _repeat(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    if isinstance(inside, list) and len(inside) < 2000:
        inside += inside[: draw.choice((1, 3, 100))]


def _retype(inside: Any, key: Any, draw: random.Random, places: Sequence[tuple[Any, Any]]) -> None:
    value = inside[key] if key in _keys(inside) else None
    inside[key] = draw.choice(
        (str(value)[:1000], [value], {"a": value}, len(str(value)), float(len(str(value))))
    )


_OF_JSON: tuple[Callable[..., None], ...] = (
    *(
        _replace,
        _replace,
        _replace,
        _take_from_elsewhere,
        _remove,
        _add,
        _rename,
        _nudge,
        _nest,
        _repeat,
        _retype,
    ),
)


def _flip(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    changed = bytearray(data or b"\0")
    changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _number(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A binary number in place of what stands there."""
    size = draw.choice((1, 2, 4, 8))
    number = draw.choice(
        (0, 1, 2, 127, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, len(data))
    )
    at = draw.randrange(len(data) + 1)
    return data[:at] + (number % (1 << 8 * size)).to_bytes(size, "little") + data[at + size :]


def _cut(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    start, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    return data[:start] + data[end:]


def _copy(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A part of it again, perhaps many times."""
    start = draw.randrange(len(data) + 1)
    part = data[start : start + draw.choice((1, 2, 8, 40))]
    at = draw.randrange(len(data) + 1)
    return data[:at] + part * draw.choice((1, 1, 1, 2, 20, 400)) + data[at:]


def _word(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    at = draw.randrange(len(data) + 1)
    over = draw.choice((0, 0, 1, 4))
    return data[:at] + draw.choice(words or (b" ",)) + data[at + over :]


def _splice(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    other = draw.choice(others or (data,))
    start = draw.randrange(len(other) + 1)
    at = draw.randrange(len(data) + 1)
    return data[:at] + other[start : start + draw.choice((4, 30, 300))] + data[draw.choice((at, len(data))) :]


def _blow_up(data: bytes, draw: random.Random, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One thing thousands of times: what takes a time that grows with its square shows."""
    at = draw.randrange(len(data) + 1)
    what = draw.choice((draw.choice(words or (b" ",)), data[at : at + draw.choice((1, 2, 5))])) or b" "
    if draw.random() < 0.98:  # it takes time even where all is well
        return data[:at] + what * 50 + data[at:]
    return data[:at] + what * (60_000 // len(what)) + data[at:]


_OF_BYTES = (_blow_up, _flip, _flip, _number, _cut, _copy, _word, _word, _splice)
