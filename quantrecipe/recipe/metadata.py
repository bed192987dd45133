"""The `metadata` of a recipe: keys to set in the output, as GGUF values.

general.author: Ada                              a text
general.license: {type: str, value: mit}         the same, with its type spelt out
my.revision: 3                                   a whole number: u32, or i32, i64, u64 where it doesn't fit
my.share: 0.5                                    a number with a point: f32
my.tags: [code, small]                           a list of one kind
my.limits: {type: u16, value: [1, 2]}            a list with the type of its items
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.recipe.reading.node_reader import Reader
from quantrecipe.recipe.reading.yaml_document import Node

__all__ = ["METADATA_TYPES", "read_metadata", "write_metadata", "wrong_key"]

METADATA_TYPES: Mapping[str, ValueType] = MappingProxyType(
    {
        "u8": ValueType.UINT8,
        "i8": ValueType.INT8,
        "u16": ValueType.UINT16,
        "i16": ValueType.INT16,
        "u32": ValueType.UINT32,
        "i32": ValueType.INT32,
        "f32": ValueType.FLOAT32,
        "bool": ValueType.BOOL,
        "str": ValueType.STRING,
        "u64": ValueType.UINT64,
        "i64": ValueType.INT64,
        "f64": ValueType.FLOAT64,
    }
)
"""Names of value types in recipes."""

_NAMES = {value_type: name for name, value_type in METADATA_TYPES.items()}
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_KEY = 200  # GGUF allows 65,535; tables of keys are made for those that people write
_RESERVED = (
    ("general.file_type", "set `file_type` instead"),
    ("general.quantization_version", "it describes the file's own encoding"),
    ("general.alignment", "it describes the file's own layout"),
    ("general.architecture", "the model's tensors are named for it"),
    ("quantrecipe.", "these keys say where the file comes from"),
    ("quantize.imatrix.", "these keys describe the importance matrix that is used"),
    ("split.", "these keys describe the file's own layout"),
)


def read_metadata(node: Node | None, reader: Reader) -> Mapping[str, GGUFValue]:
    """Read the key `metadata` as GGUF values."""
    if node is None:
        return MappingProxyType({})
    if node.kind != "mapping":
        reader.add(node, "metadata must be a mapping of keys and values", "write general.author: Ada")
        return MappingProxyType({})
    values = {}
    for key, entry in node.entries.items():
        for what, remedy in wrong_key(key):
            reader.add(entry.key, what, remedy)
        if (value := _read_value(key, entry.value, reader)) is not None:
            values[key] = value
    return MappingProxyType(values)


def wrong_key(key: str) -> Iterator[tuple[str, str]]:
    """Say why a recipe can't set a key, if it can't, and what to do."""
    if not _KEY.fullmatch(key) or len(key) > _MAX_KEY:
        yield f"the metadata key {key[:60]!r} isn't made of names and dots", "write general.author"
    for reserved, why in _RESERVED:
        if key == reserved or (reserved.endswith(".") and key.startswith(reserved)):
            yield f"the metadata key {key!r} can't be set: {why}", "leave it out"


def write_metadata(value: GGUFValue, *, shortest: bool = False) -> Any:
    """Return the value as a recipe says it, with its type, so that `read_metadata` reads the same value back.

    `shortest`: a float32 with as few digits as tell it from others, 0.1 instead of 0.10000000149011612.
    """
    plain = value.decode()
    if shortest and value.type is ValueType.FLOAT32:
        import numpy as np  # only to write one: reading plans needs none

        plain = float(str(np.float32(plain)))
    item_type = value.item_type or value.type
    if item_type in (ValueType.STRING, ValueType.BOOL) and plain != []:
        return plain
    return {"type": _NAMES[item_type], "value": plain}


def _read_value(key: str, node: Node, reader: Reader) -> GGUFValue | None:
    type_: ValueType | None = None
    if node.kind == "mapping":
        keys = reader.mapping(node, "a metadata value", ("type", "value"))
        if keys is None or keys.keys() != {"type", "value"}:
            reader.add(node, f"{key} needs a type and a value", "write {type: u32, value: 7}")
            return None
        name = reader.choice(keys["type"], "type", tuple(METADATA_TYPES))
        if name is None:
            return None
        type_, node = METADATA_TYPES[name], keys["value"]
    items = node.items if node.kind == "list" else (node,)
    plain = [item.plain() for item in items]
    if type_ is None:
        type_ = _guess(plain)
    if type_ is None or not all(_suits(type_, value) for value in plain):
        wanted = (
            f"of type {_NAMES[type_]}"
            if type_ is not None
            else "texts, numbers, or true and false, of one kind"
        )
        reader.add(
            node,
            f"{key}: the value isn't {wanted}",
            "write a text, a number, true or false, or a list of one kind",
        )
        return None
    try:
        return GGUFValue.array(type_, plain) if node.kind == "list" else GGUFValue.of(type_, plain[0])
    except ModelError as error:
        reader.add(node, f"{key}: {error.problems[0].what}", "choose a larger type")
        return None


def _guess(values: list[Any]) -> ValueType | None:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return ValueType.BOOL
    if kinds == {str}:
        return ValueType.STRING
    if kinds == {int}:
        fits = (ValueType.UINT32, ValueType.INT32, ValueType.INT64, ValueType.UINT64)
        return next((t for t in fits if all(_suits(t, value) for value in values)), None)
    return ValueType.FLOAT32 if kinds and kinds <= {int, float} else None


def _suits(type_: ValueType, value: Any) -> bool:
    name = _NAMES[type_]
    if name == "str":
        return isinstance(value, str)
    if name == "bool" or isinstance(value, bool):
        return name == "bool" and isinstance(value, bool)
    if name in ("f32", "f64"):
        return isinstance(value, int | float) and abs(value) <= (3.4e38 if name == "f32" else 1.7e308)
    bits = int(name[1:])
    low, high = (0, 2**bits) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return isinstance(value, int) and low <= value < high
