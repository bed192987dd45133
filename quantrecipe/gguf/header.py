"""GGUF headers, read lazily and without trust.

    "GGUF"   u32 version   u64 tensors   u64 keys
    for each key:     string name   u32 type   value                                     see `values`
    for each tensor:  string name   u32 n   n u64 dimensions, fastest first   u32 ggml type   u64 offset
    padding up to the alignment, then the data that the offsets count from

An array stays the bytes that it is: of a vocabulary, only the lengths of its strings are walked over. The
file is read in growing pieces, never mapped, so that a file cut short while it is read is an error and not a
crash. Every count, length and offset is held against the size of the file before anything is allocated.

Formats are not known here: whether a tensor fits into its `room` is for those to say who know its type. What ggml
doesn't load, but other readers of GGUFs do, is read: tensors of more than four dimensions; so are tensors without
elements.

Source: the GGUF specification, versions 2 and 3 (one layout; 3 added big-endian files).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from quantrecipe.gguf.cursor import Cursor, open_cursor
from quantrecipe.gguf.values import SIZES, GGUFValue, ValueType

__all__ = ["ALIGNMENT_KEY", "DEFAULT_ALIGNMENT", "MAGIC", "GGUFHeader", "TensorEntry", "read_header"]

MAGIC = b"GGUF"
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32

_VERSIONS = (2, 3)
_MAX_DIMS = 32  # as in safetensors; ggml has 4, stable-diffusion.cpp 5, NumPy (and so gguf-py) 64
_MAX_WEIGHTS = 2**63 - 1  # ggml counts in int64
_MAX_ALIGNMENT = 2**20  # far above any page size; keeps a lying header from asking for gigabytes of padding
_MAX_NESTING = 4  # arrays of arrays; no writer in use nests at all
_SMALLEST_KEY = 8 + 4 + 1  # an empty key with a one-byte value
_SMALLEST_TENSOR = 8 + 4 + 4 + 8  # no name, no dimensions

_REFUSED = "llama.cpp doesn't read it either: write the file again, or download it if it was whole once"

_PREFIX = struct.Struct("<4sIQQ")
_ARRAY = struct.Struct("<IQ")
_TYPES = {int(type_): type_ for type_ in ValueType}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorEntry:
    """A tensor in a GGUF header: `shape` slowest first, `offset` in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GGUFHeader:
    """What the header of a GGUF file says; metadata and tensors in the file's order."""

    path: Path
    version: int
    metadata: Mapping[str, GGUFValue]
    tensors: tuple[TensorEntry, ...]
    alignment: int
    data_start: int
    file_size: int

    def rooms(self) -> dict[str, int]:
        """Bytes that each tensor can have: up to the next tensor's offset, or to the end of the file."""
        # One without elements comes before the one that begins at the same place: it has no bytes.
        ordered = sorted(self.tensors, key=lambda tensor: (tensor.offset, 0 not in tensor.shape))
        bounds = [*(tensor.offset for tensor in ordered), self.file_size - self.data_start]
        rooms = {t.name: end - t.offset for t, end in zip(ordered, bounds[1:], strict=True)}
        return rooms | {tensor.name: 0 for tensor in ordered if 0 in tensor.shape}


def read_header(path: str | Path) -> GGUFHeader:
    """The header of a GGUF file. ModelError where it can't be read, or can't be true."""
    with open_cursor(Path(path)) as cursor:
        return _parse(cursor)


def _parse(cursor: Cursor) -> GGUFHeader:
    version, n_tensors, n_keys = _prefix(cursor)
    metadata: dict[str, GGUFValue] = {}
    for number in range(1, n_keys + 1):
        cursor.where = f"metadata key {number} of {n_keys}"
        key = cursor.text()
        if key in metadata:
            cursor.fail(f"metadata key {key!r} is there twice", _REFUSED)
        cursor.where = f"metadata key {key!r}"
        metadata[key] = _value(cursor)
    alignment = _alignment(cursor, metadata)
    tensors: dict[str, TensorEntry] = {}
    for number in range(1, n_tensors + 1):
        cursor.where = f"tensor {number} of {n_tensors}"
        tensor = _tensor(cursor, alignment)
        if tensor.name in tensors:
            cursor.fail(f"tensor {tensor.name!r} is there twice", _REFUSED)
        tensors[tensor.name] = tensor
    header = GGUFHeader(
        path=cursor.path,
        version=version,
        metadata=metadata,
        tensors=tuple(tensors.values()),
        alignment=alignment,
        data_start=-(-cursor.at // alignment) * alignment,
        file_size=cursor.size,
    )
    _check_offsets(cursor, header)
    return header


def _prefix(cursor: Cursor) -> tuple[int, int, int]:
    if cursor.size < _PREFIX.size:
        cursor.fail(f"is too short for a GGUF file ({cursor.size} bytes)")
    magic, version, n_tensors, n_keys = _PREFIX.unpack(cursor.take(_PREFIX.size))
    if magic != MAGIC:
        cursor.fail(f"is not a GGUF file: it begins with {magic!r}", "give a .gguf file")
    if version not in _VERSIONS:
        if version.to_bytes(4, "big") in [known.to_bytes(4, "little") for known in _VERSIONS]:
            cursor.fail(
                "is a big-endian GGUF file; quantrecipe reads little-endian ones",
                "get the little-endian one, or convert it with gguf-py's gguf_convert_endian.py",
            )
        remedy = "convert the model again" if version < _VERSIONS[0] else "a newer quantrecipe may know it"
        cursor.fail(f"has GGUF version {version} (expected: {' or '.join(map(str, _VERSIONS))})", remedy)
    claims = ((n_keys, _SMALLEST_KEY, "metadata keys"), (n_tensors, _SMALLEST_TENSOR, "tensors"))
    for count, smallest, what in claims:
        if count * smallest > cursor.size:
            cursor.fail(f"claims {count:,} {what}, more than fit into its {cursor.size:,} bytes")
    return version, n_tensors, n_keys


def _value(cursor: Cursor) -> GGUFValue:
    type_ = _type(cursor)
    if type_ in SIZES:
        return GGUFValue(type_, cursor.take(SIZES[type_]))
    start = cursor.at
    if type_ is ValueType.STRING:
        cursor.skip_strings(1)
    else:
        _skip_array(cursor, _MAX_NESTING)
    return GGUFValue(type_, bytes(memoryview(cursor.data)[start : cursor.at]))


def _skip_array(cursor: Cursor, nesting: int) -> None:
    if not nesting:
        cursor.fail(
            f"{cursor.where} nests arrays more than {_MAX_NESTING} deep, which quantrecipe doesn't read",
            "write the file without this key; llama.cpp reads no nested arrays at all",
        )
    item, count = _type(cursor), cursor.u64()
    smallest = SIZES.get(item) or (8 if item is ValueType.STRING else _ARRAY.size)
    if count * smallest > cursor.size - cursor.at:
        cursor.fail(f"{cursor.where} claims {count:,} items, more than the file has room for")
    if item in SIZES:
        cursor.need(cursor.at + count * smallest)
        cursor.at += count * smallest
    elif item is ValueType.STRING:
        cursor.skip_strings(count)
    else:
        for _ in range(count):
            _skip_array(cursor, nesting - 1)


def _type(cursor: Cursor) -> ValueType:
    number = cursor.u32()
    if number not in _TYPES:
        cursor.fail(
            f"{cursor.where} has the unknown value type {number}: GGUF version 3 has the types 0 to {max(_TYPES)}",
            "a newer quantrecipe may know it; if no program reads the file, download it again",
        )
    return _TYPES[number]


def _alignment(cursor: Cursor, metadata: Mapping[str, GGUFValue]) -> int:
    value = metadata.get(ALIGNMENT_KEY)
    if value is None:
        return DEFAULT_ALIGNMENT
    alignment = value.decode() if value.type is ValueType.UINT32 else 0
    if alignment > _MAX_ALIGNMENT and not alignment & (alignment - 1):
        cursor.fail(
            f"{ALIGNMENT_KEY} is {alignment}; quantrecipe reads at most {_MAX_ALIGNMENT}",
            "write the file with a smaller one: 32 is usual",
        )
    if not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        shown = alignment or f"{value.type.name} {value.payload[:8].hex()}"
        cursor.fail(
            f"{ALIGNMENT_KEY} is {shown} (expected: UINT32, a power of two up to {_MAX_ALIGNMENT})", _REFUSED
        )
    return int(alignment)


def _tensor(cursor: Cursor, alignment: int) -> TensorEntry:
    name = cursor.text()
    cursor.where = f"tensor {name!r}"
    n_dims = cursor.u32()
    if 8 * n_dims > cursor.size - cursor.at:
        cursor.fail(f"{cursor.where} claims {n_dims} dimensions, more than the file has room for")
    if n_dims > _MAX_DIMS:
        cursor.fail(
            f"{cursor.where} has {n_dims} dimensions; quantrecipe reads at most {_MAX_DIMS}",
            "write the file with fewer",
        )
    shape = tuple(cursor.u64() for _ in range(n_dims))[::-1]
    if prod(shape) > _MAX_WEIGHTS or max(shape, default=1) > _MAX_WEIGHTS:
        cursor.fail(f"{cursor.where} has the impossible shape {shape}")
    ggml_type, offset = cursor.u32(), cursor.u64()
    if offset % alignment:
        cursor.fail(
            f"{cursor.where} lies at offset {offset}, not a multiple of the alignment, {alignment}", _REFUSED
        )
    return TensorEntry(name=name, shape=shape, ggml_type=ggml_type, offset=offset)


def _check_offsets(cursor: Cursor, header: GGUFHeader) -> None:
    previous = None
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        if 0 in tensor.shape:  # it has no bytes, wherever it begins
            continue
        if header.data_start + tensor.offset >= header.file_size:
            cursor.fail(
                f"tensor {tensor.name!r} begins at byte {header.data_start + tensor.offset:,}, "
                f"beyond the end of the file ({header.file_size:,} bytes)"
            )
        if previous is not None and previous.offset == tensor.offset:
            both = f"{previous.name!r} and {tensor.name!r}"
            cursor.fail(f"tensors {both} overlap: both begin at offset {tensor.offset}")
        previous = tensor
