"""A measurement as a GGUF importance matrix: the bytes that llama-imatrix writes for the same content.

    general.type   imatrix.datasets   imatrix.chunk_count   imatrix.chunk_size
    quantrecipe.imatrix.…         only of a measurement with a provenance; llama.cpp leaves it alone
    NAME.in_sum2   NAME.counts        for each tensor, in the order of the names

Source: llama.cpp, tools/imatrix/imatrix.cpp: save_imatrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from quantrecipe.errors import ImportanceError
from quantrecipe.gguf.header import DEFAULT_ALIGNMENT, TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded
from quantrecipe.importance.from_gguf import COUNTS, SUMS
from quantrecipe.importance.measurement import EncodedImportance, Measurement
from quantrecipe.importance.provenance import KEYS, PREFIX, Provenance

__all__ = ["encode_gguf"]

_F32 = 0  # ggml: GGML_TYPE_F32
_MOST_CHUNKS = 2**32 - 1  # imatrix.chunk_count is a UINT32
_LONGEST_NAME = 63  # ggml: GGML_MAX_NAME, with the zero at its end


def encode_gguf(measurement: Measurement) -> EncodedImportance:
    """The file. ImportanceError where a name is longer than llama.cpp reads."""
    header, nbytes = _header(measurement)
    return EncodedImportance(layout="gguf", nbytes=nbytes, pieces=lambda: _pieces(header, measurement))


def _header(measurement: Measurement) -> tuple[bytes, int]:
    if measurement.chunks > _MOST_CHUNKS:
        raise ImportanceError(
            f"the number of chunks, {measurement.chunks:,}, is too large for a GGUF importance matrix",
            "give smaller weights, or fewer files",
        )
    metadata = {
        "general.type": GGUFValue.of(ValueType.STRING, "imatrix"),
        "imatrix.datasets": GGUFValue.array(ValueType.STRING, measurement.datasets),
        "imatrix.chunk_count": GGUFValue.of(ValueType.UINT32, measurement.chunks),
        "imatrix.chunk_size": GGUFValue.of(ValueType.UINT32, measurement.chunk_size),
    }
    if measurement.provenance is not None:
        metadata |= _provenance_pairs(measurement.provenance)
    tensors = []
    offset = 0
    for tensor in measurement.tensors:
        if len((tensor.name + SUMS).encode()) > _LONGEST_NAME:
            raise ImportanceError(
                f"the name {tensor.name} is too long for a GGUF importance matrix",
                f"with {SUMS}, llama.cpp takes {_LONGEST_NAME} bytes",
            )
        n = len(tensor.counts)
        for suffix, cols in ((SUMS, tensor.size // n), (COUNTS, 1)):
            shape = (cols,) if n == 1 else (n, cols)
            tensors.append(TensorEntry(name=tensor.name + suffix, shape=shape, ggml_type=_F32, offset=offset))
            offset += padded(4 * n * cols, DEFAULT_ALIGNMENT)
    header = encode_header(metadata, tensors)
    return header, len(header) + offset


def _provenance_pairs(provenance: Provenance) -> dict[str, GGUFValue]:
    """The pairs of metadata, without those whose fact isn't known."""
    texts = provenance.texts
    facts: dict[str, Any] = {
        "version": provenance.version,
        "engine": provenance.engine,
        "model.fingerprint": provenance.fingerprint,
        "model.xxh3_128": provenance.model,
        "text.names": [text.name for text in texts],
        "text.xxh3_128": [text.digest for text in texts],
        "text.tokens": [text.tokens for text in texts],
        "text.weights": [float(text.weight) for text in texts],
        "template.xxh3_128": provenance.template,
        "contexts": list(provenance.contexts),
        "seed": provenance.seed,
        "skip": provenance.skip,
        "chunks": provenance.chunks,
        "all_experts": provenance.all_experts,
    }
    return {
        PREFIX + key: GGUFValue.array(type_, facts[key]) if is_array else GGUFValue.of(type_, facts[key])
        for key, (type_, is_array) in KEYS.items()
        if facts[key] not in ("", [], None)
    }


def _pieces(header: bytes, measurement: Measurement) -> Iterator[bytes]:
    yield header
    for tensor in measurement.tensors:
        for values in (tensor.sums(), np.asarray(tensor.counts, np.float32)):
            yield values.astype("<f4", copy=False).tobytes()
            yield bytes(-values.nbytes % DEFAULT_ALIGNMENT)
