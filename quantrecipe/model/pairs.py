"""Key-value pairs of a GGUF, put together: short names for the types that a converted model needs."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from quantrecipe.gguf.values import GGUFValue, ValueType

__all__ = ["Pairs", "boolean", "booleans", "f32", "f32s", "i32s", "text", "texts", "u32"]

Pairs: TypeAlias = dict[str, GGUFValue]
"""In the order in which they are written."""

_ARRAY_HEADER = struct.Struct("<IQ")
_LENGTH = 8  # bytes of a length


def u32(number: int) -> GGUFValue:
    """Make a UINT32."""
    return GGUFValue.of(ValueType.UINT32, number)


def f32(number: float) -> GGUFValue:
    """Make a FLOAT32."""
    return GGUFValue.of(ValueType.FLOAT32, number)


def boolean(flag: bool) -> GGUFValue:
    """Make a BOOL."""
    return GGUFValue.of(ValueType.BOOL, flag)


def booleans(flags: Iterable[bool]) -> GGUFValue:
    """Make an array of BOOL."""
    return GGUFValue.array(ValueType.BOOL, list(flags))


def text(value: str) -> GGUFValue:
    """Make a STRING."""
    return GGUFValue.of(ValueType.STRING, value)


def texts(values: Iterable[str]) -> GGUFValue:
    """An array of STRING. Vocabularies have hundreds of thousands of items, so they are encoded as one text.

    A character's bytes in UTF-8 follow from its number; so the texts' lengths, and their places in the array.
    """
    items = list(values)
    whole = "".join(items)
    raw = np.frombuffer(whole.encode(), np.uint8)
    chars = np.frombuffer(whole.encode("utf-32-le"), "<u4")
    ends = np.zeros(chars.size + 1, np.int64)  # in bytes, after each character
    np.cumsum(1 + (chars >= 0x80) + (chars >= 0x800) + (chars >= 0x10000), out=ends[1:])
    stops = ends[np.cumsum(np.fromiter(map(len, items), np.int64, len(items)))]
    starts = np.concatenate([[0], stops[:-1]]) if items else stops
    body = np.empty(raw.size + _LENGTH * stops.size, np.uint8)
    heads = (starts + _LENGTH * np.arange(stops.size))[:, None] + np.arange(_LENGTH)
    is_text = np.ones(body.size, bool)
    is_text[heads] = False
    body[is_text] = raw
    body[heads] = (stops - starts).astype("<u8").view(np.uint8).reshape(-1, _LENGTH)
    return GGUFValue(ValueType.ARRAY, _ARRAY_HEADER.pack(ValueType.STRING, len(items)) + body.tobytes())


def f32s(values: Any) -> GGUFValue:
    """Make an array of FLOAT32."""
    return GGUFValue.array(ValueType.FLOAT32, values)


def i32s(values: Any) -> GGUFValue:
    """Make an array of INT32."""
    return GGUFValue.array(ValueType.INT32, values)
