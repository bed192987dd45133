"""Importance matrices in both layouts, written byte by byte: what readers must take, and what they must refuse."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.importance.measurement import measured
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_gguf import encode_gguf

__all__ = ["dat_bytes", "with_provenance", "write_gguf", "write_gguf_imatrix"]


def dat_bytes(
    entries: Sequence[tuple[str, int, Sequence[float]]],
    *,
    chunks: int | None = None,
    dataset: str | None = None,
) -> bytes:
    """A legacy file: (name, calls, values) for each entry, and the trailer as far as it is given."""
    data = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        data += struct.pack("<i", len(name.encode())) + name.encode()
        data += struct.pack("<ii", calls, len(values)) + np.asarray(values, "<f4").tobytes()
    if chunks is not None:
        data += struct.pack("<i", chunks)
    if dataset is not None:
        data += struct.pack("<i", len(dataset.encode())) + dataset.encode()
    return data


def write_gguf(
    path: Path,
    tensors: Mapping[str, NDArray[np.floating]],
    metadata: Mapping[str, GGUFValue] | None = None,
) -> Path:
    """A GGUF file of F32 tensors (any other dtype gets the type id of F16)."""
    entries, blob = [], b""
    for name, values in tensors.items():
        type_id = 0 if values.dtype == np.float32 else 1
        entries.append(TensorEntry(name=name, shape=values.shape, ggml_type=type_id, offset=len(blob)))
        content = values.tobytes()
        blob += content + b"\0" * (-len(content) % 32)
    path.write_bytes(encode_header(dict(metadata or {}), entries) + blob)
    return path


def write_gguf_imatrix(
    path: Path,
    entries: Mapping[str, tuple[NDArray[np.float32], Sequence[float]]],
    *,
    datasets: Sequence[str] = ("text",),
    chunks: int = 10,
) -> Path:
    """A GGUF importance matrix: name → (sums of squares, counts)."""
    tensors: dict[str, NDArray[np.floating]] = {}
    for name, (sums, counts) in entries.items():
        tensors[f"{name}.in_sum2"] = np.asarray(sums, np.float32)
        tensors[f"{name}.counts"] = np.asarray(counts, np.float32).reshape(-1, 1)
    metadata = {
        "general.type": GGUFValue.of(ValueType.STRING, "imatrix"),
        "imatrix.datasets": GGUFValue.array(ValueType.STRING, list(datasets)),
        "imatrix.chunk_count": GGUFValue.of(ValueType.UINT32, chunks),
        "imatrix.chunk_size": GGUFValue.of(ValueType.UINT32, 512),
    }
    return write_gguf(path, tensors, metadata)


def with_provenance(source: Path, provenance: Provenance | None, path: Path) -> Path:
    """The matrix in `source`, written to `path` with this provenance."""
    measurement = replace(measured(read_importance(source)), provenance=provenance)
    path.write_bytes(b"".join(encode_gguf(measurement).pieces()))
    return path
