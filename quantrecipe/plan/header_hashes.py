"""Hashes of a file's header, recorded in it: a flipped bit of a name, a shape or a value can be found and named.

    quantrecipe.header.xxh3_64    array of strings: XXH3-64 of each other pair of this file's metadata, in their order
                                  (key, NUL, type as u32, value), then of each entry of its list of tensors
                                  (name, NUL, type as u32, offset and dimensions as u64)

Every shard has its own. The length of the array follows from the number of pairs and tensors, so that the header's
size is known before its content.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import xxhash

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType

__all__ = ["HEADER_HASHES", "header_hashes", "with_header_hashes", "with_room"]

HEADER_HASHES = "quantrecipe.header.xxh3_64"
_LENGTH = 16  # hex digits of 64 bits


def header_hashes(metadata: Mapping[str, GGUFValue], tensors: Sequence[TensorEntry]) -> list[str]:
    """The hashes of a header whose other values are final."""
    pairs = [
        b"%s\0%s%s" % (key.encode(), struct.pack("<I", value.type), value.payload)
        for key, value in metadata.items()
        if key != HEADER_HASHES
    ]
    entries = [
        b"%s\0%s"
        % (
            tensor.name.encode(),
            struct.pack(f"<IQ{len(tensor.shape)}Q", tensor.ggml_type, tensor.offset, *tensor.shape),
        )
        for tensor in tensors
    ]
    return [xxhash.xxh3_64_hexdigest(content) for content in (*pairs, *entries)]


def with_room(metadata: Mapping[str, GGUFValue], tensors: int) -> Mapping[str, GGUFValue]:
    """The metadata with room for the hashes of a file of so many tensors, if it is to have them."""
    if HEADER_HASHES not in metadata:
        return metadata
    count = len(metadata) - 1 + tensors
    return {**metadata, HEADER_HASHES: GGUFValue.array(ValueType.STRING, ["0" * _LENGTH] * count)}


def with_header_hashes(
    metadata: Mapping[str, GGUFValue], tensors: Sequence[TensorEntry]
) -> Mapping[str, GGUFValue]:
    """The metadata with its hashes, if it has room for them."""
    if HEADER_HASHES not in metadata:
        return metadata
    return {**metadata, HEADER_HASHES: GGUFValue.array(ValueType.STRING, header_hashes(metadata, tensors))}
