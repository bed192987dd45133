"""The zoo of small models in tests/data/shapes/zoo, with random weights in them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.tensor import TensorInfo
from support.imatrix_files import write_gguf_imatrix

ZOO = sorted((Path(__file__).parents[1] / "data/shapes/zoo").glob("*.json"))
_MOST_ROWS = 4
"""Types depend on columns, and quantizing takes time."""

_TYPE_IDS = {"F32": 0, "F16": 1, "BF16": 30}


def write_model(shapes: Path, path: Path) -> Model:
    """A GGUF of the model, its matrices cut to a few rows, tensors in shuffled order; returns its shapes."""
    model = open_shapes(shapes)
    rng = np.random.default_rng(zlib.crc32(shapes.stem.encode()))
    tensors = [model.tensors[i] for i in rng.permutation(len(model.tensors))]
    entries, blobs, offset = [], [], 0
    for tensor in tensors:
        shape = _cut(tensor)
        weights = (rng.standard_normal(shape) * 0.05).astype(np.float32)
        blob = weights.tobytes() if tensor.dtype == "F32" else weights.astype(np.float16).tobytes()
        entries.append(
            TensorEntry(name=tensor.name, shape=shape, ggml_type=_TYPE_IDS[tensor.dtype], offset=offset)
        )
        blobs.append(blob.ljust(padded(len(blob), 32), b"\0"))
        offset += len(blobs[-1])
    mostly_f16 = {"general.file_type": GGUFValue.of(ValueType.UINT32, 1)}  # as converters write it
    path.write_bytes(encode_header({**mostly_f16, **model.metadata}, entries) + b"".join(blobs))
    return model


def write_importance(model: Model, path: Path) -> Path:
    """An importance matrix for every matrix of the model but the token embedding."""
    rng = np.random.default_rng(1)
    entries = {
        tensor.name: (
            rng.exponential(1.0, (tensor.experts, tensor.cols)).astype(np.float32) * 8,
            [8.0] * tensor.experts,
        )
        for tensor in model.tensors
        if len(tensor.shape) > 1 and tensor.name.endswith(".weight") and "token_embd" not in tensor.name
    }
    return write_gguf_imatrix(path, entries)


def _cut(tensor: TensorInfo) -> tuple[int, ...]:
    if len(tensor.shape) < 2 or tensor.dtype != "F16":
        return tensor.shape
    return (*tensor.shape[:-2], min(tensor.rows, _MOST_ROWS), tensor.cols)
