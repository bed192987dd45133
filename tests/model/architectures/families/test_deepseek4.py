"""DeepSeek V4: ratios that llama.cpp doesn't have, and layers that send tokens to experts by a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.recorded_architectures import write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.tensor_reader import TensorReader

BIAS = "layers.0.ffn.gate.bias"


def with_config(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_ratios(tmp_path: Path) -> None:
    folder = with_config(write_recorded("deepseek4", tmp_path), compress_ratios=[0, 4, 64])
    with pytest.raises(
        ModelError, match=r"says compress_ratios: \[64\] \(what llama.cpp has: 0, 4 and 128\)"
    ):
        open_model(folder)


def test_a_bias_where_a_table_chooses(tmp_path: Path) -> None:
    folder = write_recorded("deepseek4", tmp_path, lambda tensors: tensors.update({BIAS: ("F32", [4])}))
    names = {tensor.name for tensor in open_model(folder).tensors}
    assert "blk.0.exp_probs_b.bias" not in names
    assert "blk.1.exp_probs_b.bias" in names


def test_the_table_has_32_bits(tmp_path: Path) -> None:
    source = open_model(write_recorded("deepseek4", tmp_path)).sources["blk.0.ffn_gate_tid2eid.weight"]
    with TensorReader() as reader:
        table = source.read(0, source.total_rows, Reading(reader)).view("<i4")
    assert table.shape == source.shape
    assert set(np.unique(table)) == {0, 1, 2, 3}
