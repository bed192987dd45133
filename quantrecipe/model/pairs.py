"""Key-value pairs of a GGUF, put together: short names for the types that a converted model needs."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, TypeAlias

from quantrecipe.gguf.values import GGUFValue, ValueType

__all__ = ["Pairs", "boolean", "f32", "i32s", "text", "texts", "u32"]

Pairs: TypeAlias = dict[str, GGUFValue]
"""In the order in which they are written."""

_ARRAY_HEADER = struct.Struct("<IQ")
_pack_length = struct.Struct("<Q").pack
_SHORT = tuple(map(_pack_length, range(256)))


def u32(number: int) -> GGUFValue:
    """A UINT32."""
    return GGUFValue.of(ValueType.UINT32, number)


def f32(number: float) -> GGUFValue:
    """A FLOAT32."""
    return GGUFValue.of(ValueType.FLOAT32, number)


def boolean(flag: bool) -> GGUFValue:
    """A BOOL."""
    return GGUFValue.of(ValueType.BOOL, flag)


def text(value: str) -> GGUFValue:
    """A STRING."""
    return GGUFValue.of(ValueType.STRING, value)


def texts(values: Iterable[str]) -> GGUFValue:
    """An array of STRING; quick, since vocabularies and merges have hundreds of thousands of items."""
    parts: list[bytes] = []
    for value in values:
        raw = value.encode()
        parts.append(_SHORT[len(raw)] if len(raw) < len(_SHORT) else _pack_length(len(raw)))
        parts.append(raw)
    return GGUFValue(ValueType.ARRAY, _ARRAY_HEADER.pack(ValueType.STRING, len(parts) // 2) + b"".join(parts))


def i32s(values: Any) -> GGUFValue:
    """An array of INT32."""
    return GGUFValue.array(ValueType.INT32, values)
