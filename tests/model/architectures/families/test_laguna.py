"""Laguna, Mellum and LFM2: gates, windows, and what stands beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import write_edited

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model


class TestLaguna:
    def test_a_gate_that_isn_t_known(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="says that the gate is 'per_layer'"):
            open_model(write_edited("laguna", tmp_path, gating="per-layer"))

    def test_gates_that_gating_hides(self, tmp_path: Path) -> None:
        kinds = ["per-element"] * 4
        with pytest.raises(ModelError, match='"gating" doesn\'t say "per-element"'):
            open_model(write_edited("laguna-elem", tmp_path, gating=True, gating_types=kinds))

    def test_a_gate_of_another_width(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has the shape \(4, 64\) \(expected: \(64, 64\), by gate"):
            open_model(write_edited("laguna", tmp_path, gating="per-element"))

    def test_fewer_counts_of_heads_than_layers(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has 3 values for 4 layers under num_attention_heads"):
            open_model(write_edited("laguna", tmp_path, num_attention_heads_per_layer=[4, 4, 4]))

    def test_the_same_heads_everywhere(self, tmp_path: Path) -> None:
        def narrow(tensors: dict[str, Any]) -> None:
            tensors["model.layers.3.self_attn.q_proj.weight"] = ("BF16", [64, 64])
            tensors["model.layers.3.self_attn.o_proj.weight"] = ("BF16", [64, 64])
            tensors["model.layers.3.self_attn.g_proj.weight"] = ("BF16", [4, 64])

        folder = write_edited("laguna", tmp_path, narrow, num_attention_heads_per_layer=...)
        assert open_model(folder).metadata["laguna.attention.head_count"].decode() == [4] * 4


class TestLfm2:
    def test_a_matrix_behind_the_model(self, tmp_path: Path) -> None:
        folder = write_edited("lfm2-embed", tmp_path)
        (folder / "1_Dense").mkdir()
        (folder / "1_Dense" / "model.safetensors").write_bytes(b"")
        with pytest.raises(ModelError, match="has a last matrix in 1_Dense"):
            open_model(folder)

    def test_no_window(self, tmp_path: Path) -> None:
        model = open_model(write_edited("mellum2", tmp_path, use_sliding_window=False))
        assert "mellum.attention.sliding_window" not in model.metadata

    def test_a_language_model_within(self, tmp_path: Path) -> None:
        """LFM2-VL: the class of the language model stands in text_config."""

        def within(tensors: dict[str, Any]) -> None:
            for name in list(tensors):
                tensors[name.replace("model.", "model.language_model.", 1)] = tensors.pop(name)
            tensors["model.vision_tower.patch_embedding.weight"] = ("BF16", [4, 4])

        folder = write_edited("lfm2", tmp_path, within)
        text = json.loads((folder / "config.json").read_text())
        whole = {
            "architectures": ["Lfm2VlForConditionalGeneration"],
            "model_type": "lfm2_vl",
            "text_config": text,
        }
        (folder / "config.json").write_text(json.dumps(whole))
        model = open_model(folder)
        assert (model.arch, len(model.tensors)) == ("lfm2", 37)
