"""Command R and its relatives: what llama.cpp has no place for, and where sizes stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model

Weights = dict[str, tuple[str, list[int]]]
BIAS = "model.layers.0.input_layernorm.bias"


@pytest.mark.parametrize("name", ["cohere2", "cohere2moe"])
def test_biases_of_zeros_are_left_out(name: str, tmp_path: Path) -> None:
    model = open_model(write_recorded(name, tmp_path, lambda it: it.update({BIAS: ("BF160", [64])})))
    assert not any(tensor.name.endswith(".bias") for tensor in model.tensors)


@pytest.mark.parametrize("name", ["cohere2", "cohere2moe"])
def test_other_biases(name: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path, lambda it: it.update({BIAS: ("BF16", [64])}))
    with pytest.raises(ModelError, match=r"input_layernorm\.bias' .* has biases that aren't zero"):
        open_model(folder)


def test_large_ones_have_norms_on_q_and_k(tmp_path: Path) -> None:
    def drop(weights: Weights) -> None:
        for name in [name for name in weights if "q_norm" in name]:
            del weights[name]

    with pytest.raises(ModelError, match=r"attn_q_norm\.weight\) is missing"):
        open_model(write_recorded("commandrplus", tmp_path, drop))


def test_small_ones_have_none(tmp_path: Path) -> None:
    def add(weights: Weights) -> None:
        weights["model.layers.0.self_attn.q_norm.weight"] = ("BF16", [4, 16])

    with pytest.raises(ModelError, match=r"is none that llama\.cpp has for a command-r"):
        open_model(write_recorded("command-r", tmp_path, add))


def test_the_part_that_is_rotated(tmp_path: Path) -> None:
    whole = edit_config(write_recorded("cohere2", tmp_path / "whole"), lambda it: it.pop("rotary_pct"))
    half = edit_config(write_recorded("cohere2", tmp_path / "half"), rotary_pct=0.5)
    key = "cohere2.rope.dimension_count"
    assert [open_model(it).metadata[key].decode() for it in (whole, half)] == [16, 8]


def test_experts_that_are_joined_otherwise(tmp_path: Path) -> None:
    folder = edit_config(write_recorded("cohere2moe", tmp_path), shared_expert_combination_strategy="sum")
    with pytest.raises(ModelError, match="joins shared experts by 'sum'"):
        open_model(folder)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], "first_k_dense_replace": 3}, 1),
        ({"mlp_layer_types": None, "first_k_dense_replace": 1, "model_type": "other"}, 1),
    ],
)
def test_how_many_layers_are_dense(values: dict[str, Any], expected: int, tmp_path: Path) -> None:
    model = open_model(edit_config(write_recorded("cohere2moe", tmp_path), **values))
    assert model.metadata["cohere2moe.leading_dense_block_count"].decode() == expected


def draft_head(weights: Weights) -> None:
    """One more layer with experts, and what joins it to the others."""
    for name in [name for name in weights if ".layers.3." in name]:
        weights[name.replace(".layers.3.", ".layers.4.")] = weights[name]
    for name, shape in {"eh_proj": [64, 128], "enorm": [64], "hnorm": [64], "shared_head.norm": [64]}.items():
        weights[f"model.layers.4.{name}.weight"] = ("BF16", shape)


def test_a_draft_head(tmp_path: Path) -> None:
    folder = write_recorded("cohere2moe", tmp_path, draft_head)
    model = open_model(edit_config(folder, num_nextn_predict_layers=1))
    names = {tensor.name for tensor in model.tensors}
    assert {"blk.4.nextn.eh_proj.weight", "blk.4.ffn_gate_exps.weight", "blk.4.ffn_up_shexp.weight"} <= names
    assert model.metadata["cohere2moe.block_count"].decode() == 5
    assert model.metadata["cohere2moe.nextn_predict_layers"].decode() == 1
