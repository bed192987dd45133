"""Hugging Face folders, against what llama.cpp's converter made of the same ones (tests/data/huggingface/README.md)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.huggingface import DATA, MODELS, write_model

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model, TensorSource
from quantrecipe.model.open import open_model
from quantrecipe.model.read import FLOAT_BYTES, TensorReader, arrange_rows
from quantrecipe.tensor import TensorInfo

LONG = 16  # longer arrays are recorded as count and hash


@pytest.mark.parametrize("name", MODELS)
class TestAgainstTheConverter:
    def test_metadata(self, name: str, tmp_path: Path) -> None:
        model = open_model(write_model(name, tmp_path))
        found = [[key, described(value), content(value)] for key, value in model.metadata.items()]
        assert found == recorded(name)["metadata"]

    def test_tensors(self, name: str, tmp_path: Path) -> None:
        model = open_model(write_model(name, tmp_path))
        found = []
        with TensorReader() as reader:
            for tensor in model.tensors:
                type_ = converted_type(tensor)
                digest = hashlib.sha256(converted_bytes(model, tensor, type_, reader)).hexdigest()[:32]
                found.append([tensor.name, list(tensor.shape), type_, digest])
        assert found == recorded(name)["tensors"]


def recorded(name: str) -> dict[str, Any]:
    return json.loads((DATA / name / "converted.json").read_text(encoding="utf-8"))


def described(value: GGUFValue) -> str:
    return value.type.name + (f"[{value.item_type.name}]" if value.item_type is not None else "")


def content(value: GGUFValue) -> Any:
    decoded = value.decode()
    if isinstance(decoded, list) and len(decoded) > LONG:
        return {"count": len(decoded), "sha256": hashlib.sha256(value.payload).hexdigest()}
    return decoded


def converted_type(tensor: TensorInfo) -> str:
    """What the converter stores a tensor as: matrices in BF16, but for norms and routers."""
    routers = {"ffn_gate_inp", "ffn_gate_inp_shexp"}
    return "F32" if len(tensor.shape) == 1 or tensor.role in routers else "BF16"


def converted_bytes(model: Model, tensor: TensorInfo, type_: str, reader: TensorReader) -> bytes:
    """The content in the output's order, widened where the converter does."""
    source = model.sources[tensor.name]
    rows = stored_rows(source, tensor, reader)
    if type_ == source.dtype:
        return rows.tobytes()
    assert (source.dtype, type_) == ("BF16", "F32")
    return (rows.view("<u2").astype("<u4") << 16).tobytes()


def stored_rows(source: TensorSource, tensor: TensorInfo, reader: TensorReader) -> NDArray[np.uint8]:
    count = tensor.rows * tensor.experts
    raw = np.empty((count, tensor.cols * FLOAT_BYTES[source.dtype]), np.uint8)
    reader.read_rows(source, 0, count, raw)
    if len(tensor.shape) == 1:  # a bias is rearranged weight by weight
        raw = raw.reshape(tensor.cols, -1)
    return arrange_rows(raw, source.rows_per_head)
