"""GGUF headers, written: for the same content in the same order, the bytes of llama.cpp and of gguf-py."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from quantrecipe.gguf.header import ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType

__all__ = ["VERSION", "encode_header", "header_size", "padded"]

VERSION = 3

_PREFIX = struct.Struct("<4sIQQ")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def padded(nbytes: int, alignment: int) -> int:
    """Round a size up to the next multiple of the alignment."""
    return -(-nbytes // alignment) * alignment


def header_size(
    metadata: Mapping[str, GGUFValue], tensors: Sequence[TensorEntry], alignment: int = DEFAULT_ALIGNMENT
) -> int:
    """Bytes of the header with its padding: where the tensors' data starts. Offsets don't matter to it."""
    nbytes = _PREFIX.size
    for key, value in metadata.items():
        nbytes += _U64.size + len(key.encode()) + _U32.size + len(value.payload)
    for tensor in tensors:
        nbytes += _U64.size + len(tensor.name.encode()) + _U32.size + _U64.size * len(tensor.shape)
        nbytes += _U32.size + _U64.size
    return padded(nbytes, alignment)


def encode_header(
    metadata: Mapping[str, GGUFValue], tensors: Sequence[TensorEntry], alignment: int = DEFAULT_ALIGNMENT
) -> bytes:
    """The header, zero-padded to the alignment; metadata and tensors in the order given.

    Any alignment but the default must stand in the metadata, where readers look for it: else ValueError.
    """
    stated = metadata.get(ALIGNMENT_KEY, GGUFValue.of(ValueType.UINT32, DEFAULT_ALIGNMENT))
    if stated != GGUFValue.of(ValueType.UINT32, alignment):
        raise ValueError(f"tensors are aligned to {alignment}, but {ALIGNMENT_KEY} says {stated.decode()}")
    parts = [_PREFIX.pack(MAGIC, VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += (_string(key), _U32.pack(value.type), value.payload)
    for tensor in tensors:
        parts += (_string(tensor.name), _U32.pack(len(tensor.shape)))
        parts += (_U64.pack(dimension) for dimension in reversed(tensor.shape))
        parts += (_U32.pack(tensor.ggml_type), _U64.pack(tensor.offset))
    header = b"".join(parts)
    return header.ljust(padded(len(header), alignment), b"\0")


def _string(text: str) -> bytes:
    raw = text.encode()
    return _U64.pack(len(raw)) + raw
