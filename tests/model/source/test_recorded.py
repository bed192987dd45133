"""What llama.cpp's converter makes of tensors of several families, remade by the operations, to the byte."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest
from support.quantized_checkpoints import DATA, checkpoint_of
from support.sources import in_any_runs

from quantrecipe.model.source.arithmetic import Add, NegExp, Scale
from quantrecipe.model.source.floats import from_float32, to_float32
from quantrecipe.model.source.layout import Transpose, regroup, reshape
from quantrecipe.model.source.source import TensorSource

RECORDED = json.loads((DATA.parent / "source_operations.json").read_text())


def _falcon_in(source: TensorSource) -> TensorSource:
    """One factor for all, and one for each of five parts: gate, values, B, C and dt."""
    whole = Scale(source=source, runs=((296, 1.25),))
    parts = (0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738)
    return Scale(source=whole, runs=tuple(zip((128, 128, 16, 16, 8), parts, strict=True)), gives="BF16")


def _falcon_k(source: TensorSource) -> TensorSource:
    return Scale(source=source, runs=((32, 0.390625),), gives="BF16")


OPERATIONS: dict[tuple[str, str], Callable[[TensorSource], TensorSource]] = {
    ("gemma", "input_layernorm"): lambda it: Add(source=it, number=1),
    ("mamba", "conv1d"): lambda it: reshape(it, (128, 4)),
    ("bloom", "query_key_value"): lambda it: regroup(it, (4, 3, 16), (1, 0, 2)),
    ("gpt2", "c_attn"): lambda it: Transpose(source=it),
    ("falcon-h1", "in_proj"): _falcon_in,
    ("falcon-h1", "k_proj"): _falcon_k,
}


@pytest.mark.parametrize("recorded", RECORDED["converted"], ids=lambda it: f"{it[0]}: {it[1]}")
def test_to_the_byte(recorded: list[object], tmp_path: Path) -> None:
    model, name, dtype, shape, becomes, type_, digest = recorded
    source = checkpoint_of(tmp_path, {name: (dtype, shape)}).tensors[name].source  # type: ignore[dict-item]  # JSON
    made = OPERATIONS[str(model), str(name).split(".")[-2]](source)
    assert [*made.shape] == becomes
    found = in_any_runs(made, [1, 50])
    if made.dtype != type_:  # it is widened when it is written
        found = from_float32(to_float32(found, made.dtype), str(type_))
    assert hashlib.sha256(found.tobytes()).hexdigest() == digest


def test_an_exponential_to_one_unit_in_the_last_place(tmp_path: Path) -> None:
    recorded = RECORDED["neg_exp"]
    name, shape = recorded["name"], recorded["shape"]
    source = checkpoint_of(tmp_path, {name: (recorded["dtype"], shape)}).tensors[name].source
    made = NegExp(source=reshape(source, (prod(shape), 1)))
    found = in_any_runs(made, [3]).view(np.int32).reshape(-1)
    expected = np.frombuffer(base64.b64decode(recorded["base64"]), "<i4")
    assert np.abs(found - expected).max() <= 1
