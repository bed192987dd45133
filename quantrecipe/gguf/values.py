"""GGUFValue: a metadata value as the file holds it, decoded only when somebody asks.

A vocabulary of 150,000 tokens is carried from file to file as the bytes it is; turning it into Python
strings would take longer than everything else a plan does.

    scalar  the number, little-endian; a bool is one byte
    string  u64 length, UTF-8
    array   u32 type of the items, u64 count, the items without type tags

Source: the GGUF specification, version 3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from quantrecipe.errors import ModelError

__all__ = ["GGUFValue", "ValueType", "metadata_text"]


class ValueType(IntEnum):
    """Type tags of GGUF metadata values."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_CODES = {
    ValueType.UINT8: "B", ValueType.INT8: "b", ValueType.UINT16: "H", ValueType.INT16: "h",
    ValueType.UINT32: "I", ValueType.INT32: "i", ValueType.FLOAT32: "f", ValueType.BOOL: "?",
    ValueType.UINT64: "Q", ValueType.INT64: "q", ValueType.FLOAT64: "d",
}  # fmt: skip
"""How `struct` calls numbers of each type."""

SIZES = {type_: struct.calcsize(f"<{code}") for type_, code in _CODES.items()}
"""Bytes of a number of each type; strings and arrays aren't among them."""

_FLOATS = (ValueType.FLOAT32, ValueType.FLOAT64)
_ARRAY_HEADER = struct.Struct("<IQ")
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class GGUFValue:
    """A metadata value: its type and its bytes after the type tag. Equal if both are."""

    type: ValueType
    payload: bytes

    @classmethod
    def of(cls, type_: ValueType, value: Any) -> GGUFValue:
        """A scalar or string of this type. ModelError where the number doesn't fit the type."""
        return cls(type_, _encode(type_, value))

    @classmethod
    def array(cls, item_type: ValueType, items: Sequence[Any]) -> GGUFValue:
        """Make an array of scalars or strings of one type."""
        if item_type in SIZES:
            body = _scalars(item_type, items)
        else:
            body = b"".join(_encode(item_type, item) for item in items)
        return cls(ValueType.ARRAY, _ARRAY_HEADER.pack(item_type, len(items)) + body)

    @property
    def item_type(self) -> ValueType | None:
        """The type of an array's items; None for scalars and strings."""
        return ValueType(_ARRAY_HEADER.unpack_from(self.payload)[0]) if self.type is ValueType.ARRAY else None

    def with_items(self, items: Sequence[Any]) -> GGUFValue:
        """An array of the same type with other items. TypeError where this is no array."""
        if self.item_type is None:
            raise TypeError(f"a {self.type.name} has no items")
        return GGUFValue.array(self.item_type, items)

    def __len__(self) -> int:
        """How many items an array has, or how many bytes a string has."""
        if self.type is ValueType.ARRAY:
            return int(_ARRAY_HEADER.unpack_from(self.payload)[1])
        if self.type is ValueType.STRING:
            return len(self.payload) - _LENGTH.size
        raise TypeError(f"a {self.type.name} has no length")

    def __bool__(self) -> bool:
        """True, even for an empty array: a value is there. (Python would ask for the length.)"""
        return True

    def decode(self) -> Any:
        """int, float, bool, str, or a list of these (of lists, for nested arrays)."""
        return _decode(self.type, self.payload, 0)[0]

    def first(self, count: int) -> list[Any]:
        """The first items of an array, decoded; the others aren't looked at."""
        if self.type is not ValueType.ARRAY:
            raise TypeError(f"a {self.type.name} has no items")
        item_type = _ARRAY_HEADER.unpack_from(self.payload)[0]
        shorter = _ARRAY_HEADER.pack(item_type, min(count, len(self))) + self.payload[_ARRAY_HEADER.size :]
        items: list[Any] = _decode(self.type, shorter, 0)[0]
        return items


def metadata_text(metadata: Mapping[str, GGUFValue], key: str) -> str:
    """A string of the metadata; "" where the key is missing, or has something else."""
    value = metadata.get(key)
    return str(value.decode()) if value is not None and value.type is ValueType.STRING else ""


def _encode(type_: ValueType, value: Any) -> bytes:
    if type_ is ValueType.STRING:
        text = value.encode() if isinstance(value, str) else bytes(value)
        return _LENGTH.pack(len(text)) + text
    if type_ is ValueType.ARRAY:
        raise ModelError("an array of arrays can be copied from a GGUF, but not made")
    return _scalars(type_, [value])


def _scalars(type_: ValueType, values: Sequence[Any]) -> bytes:
    """The numbers as NumPy converts them; it isn't loaded for those that are of the type already."""
    plain = bool if type_ is ValueType.BOOL else float if type_ in _FLOATS else int
    if all(type(value) is plain for value in values):
        try:
            return struct.pack(f"<{len(values)}{_CODES[type_]}", *values)
        except (struct.error, OverflowError):
            pass  # out of range: NumPy says how
    import numpy as np

    try:
        return np.asarray(values, np.dtype(_CODES[type_]).newbyteorder("<")).tobytes()
    except (OverflowError, ValueError, TypeError) as error:
        raise ModelError(f"a metadata value doesn't fit the type {type_.name}: {error}") from error


def _decode(type_: ValueType, data: bytes, at: int) -> tuple[Any, int]:
    if type_ is ValueType.STRING:
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(data, at)[0]
        return data[start:end].decode("utf-8", errors="replace"), end
    if type_ is not ValueType.ARRAY:
        return struct.unpack_from(f"<{_CODES[type_]}", data, at)[0], at + SIZES[type_]
    item_type, count = _ARRAY_HEADER.unpack_from(data, at)
    at += _ARRAY_HEADER.size
    if (item := ValueType(item_type)) in SIZES:
        return list(struct.unpack_from(f"<{count}{_CODES[item]}", data, at)), at + count * SIZES[item]
    items = []
    for _ in range(count):
        value, at = _decode(item, data, at)
        items.append(value)
    return items, at
