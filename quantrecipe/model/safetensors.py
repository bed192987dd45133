"""safetensors headers, read without trust.

    u64 length of the header, then the header as JSON, then the data that the offsets count from
    {"NAME": {"dtype": "BF16", "shape": [768, 256], "data_offsets": [start, end]}, …,
     "__metadata__": {"KEY": "TEXT"}}

The tensors fill the data without gaps or overlaps, as the format demands. What a dtype means is not decided
here: a file with dtypes that can't be converted can still be looked at.

Source: the safetensors format description (header of at most 100 MB, row-major, little-endian).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Never

from msgspec import Meta

from quantrecipe.errors import ModelError
from quantrecipe.gguf.cursor import open_cursor
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.typed import Natural, Record, json_object, typed
from quantrecipe.wording import shortened

__all__ = ["Checkpoint", "SafetensorsHeader", "StoredTensor", "parse_json_object", "read_safetensors_header"]

_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_DIMS = 32  # as NumPy before 2.0; no model in use has more than five
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_AGAIN = "the file is damaged or incomplete: download it again"

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip


class _Entry(Record):
    """A tensor in the header; offsets count from the end of the header."""

    dtype: str
    shape: Annotated[tuple[Natural, ...], Meta(max_length=_MAX_DIMS)]
    data_offsets: tuple[Natural, Natural]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor as a safetensors file holds it: own name, dtype ("BF16", "F8_E4M3"), shape slowest first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: Extent

    @property
    def source(self) -> Stored:
        """Its content; a single number is a row of one, as to ggml."""
        return Stored(name=self.name, shape=self.shape or (1,), dtype=self.dtype, extents=(self.extent,))


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetensorsHeader:
    """What the header of a safetensors file says; tensors in the order of their data."""

    path: Path
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    file_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Tensors under their own names, and the files that hold them.

    metadata: the texts of the files' `__metadata__`, the first file's first
    index:    the file that says which tensors are in which file, where it was read
    """

    tensors: Mapping[str, StoredTensor]
    files: tuple[Path, ...]
    metadata: Mapping[str, str]
    index: Path | None = None

    @property
    def files_read(self) -> tuple[Path, ...]:
        """The files that hold tensors, and the index: what must not be written over."""
        return self.files if self.index is None else (*self.files, self.index)


def read_safetensors_header(path: str | Path) -> SafetensorsHeader:
    """The header of a safetensors file. ModelError where it can't be read, or can't be true."""
    path = Path(path)
    with open_cursor(path) as cursor:
        length = cursor.u64() if cursor.size >= _LENGTH.size else 0
        data_start = _LENGTH.size + length
        if not length or data_start > cursor.size:
            _fail(path, f"is not a whole safetensors file: {cursor.size:,} bytes, and a header of {length:,}")
        if length > _MAX_HEADER:
            _fail(path, f"has a header of {length:,} bytes; the format allows {_MAX_HEADER:,}")
        entries = parse_json_object(cursor.take(length), path, "its header")
        size = cursor.size
    metadata = _metadata(path, entries.pop(_METADATA, {}))
    tensors = [_tensor(path, name, entry, data_start, size) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.extent.offset, tensor.extent.nbytes))
    _check_offsets(path, tensors, data_start, size)
    return SafetensorsHeader(
        path=path, tensors={tensor.name: tensor for tensor in tensors}, metadata=metadata, file_size=size
    )


def parse_json_object(raw: bytes, path: Path, what: str) -> dict[str, Any]:
    """A JSON object without repeated keys, at any depth. ModelError for everything else."""
    try:
        return json_object(raw)
    except ValueError as error:
        _fail(path, f"{what} {error}")


def _metadata(path: Path, entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
        _fail(path, f"its {_METADATA} is not an object of strings")
    return entry


def _tensor(path: Path, name: str, entry: Any, data_start: int, file_size: int) -> StoredTensor:
    try:
        found = typed(entry, _Entry)
    except ValueError as error:
        _fail(path, f"tensor {name!r} has no proper entry: {error}")
    start, end = found.data_offsets
    if start > end:
        _fail(path, f"tensor {name!r} has the impossible data_offsets {found.data_offsets}")
    if data_start + end > file_size:
        _fail(path, f"tensor {name!r} reaches beyond the end of the file ({file_size:,} bytes)")
    if found.dtype in _BITS and prod(found.shape) * _BITS[found.dtype] != 8 * (end - start):
        shape = shortened(str(found.shape))
        _fail(path, f"tensor {name!r} is {found.dtype} {shape}, which doesn't make {end - start:,} bytes")
    extent = Extent(path=path, offset=data_start + start, nbytes=end - start, file_size=file_size)
    return StoredTensor(name=name, dtype=found.dtype, shape=found.shape, extent=extent)


def _check_offsets(path: Path, tensors: list[StoredTensor], data_start: int, file_size: int) -> None:
    end, previous = data_start, "the header"
    for tensor in tensors:
        if tensor.extent.offset < end:
            _fail(path, f"{previous} and tensor {tensor.name!r} overlap")
        if tensor.extent.offset > end:
            gap = tensor.extent.offset - end
            _fail(path, f"{gap:,} bytes before tensor {tensor.name!r} belong to no tensor")
        end, previous = tensor.extent.offset + tensor.extent.nbytes, f"tensor {tensor.name!r}"
    if end != file_size:
        _fail(path, f"{file_size - end:,} bytes after {previous} belong to no tensor")


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, _AGAIN, file=path)
