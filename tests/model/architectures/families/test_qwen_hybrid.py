"""Qwen3-Next and Qwen3.5: draft heads that are there or not, and linear attention whose sizes don't fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen_hybrid import _HEADS
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.reading import read_whole
from quantrecipe.model.tensor_reader import TensorReader

Weights = dict[str, tuple[str, list[int]]]


class Names(list[str]):
    """Names that count how often they are gone through."""

    searched = 0

    def __iter__(self) -> Iterator[str]:
        Names.searched += 1
        return super().__iter__()


def without(part: str) -> Any:
    def change(weights: Weights) -> None:
        for name in [name for name in weights if part in name]:
            del weights[name]

    return change


def value(model: Model, key: str) -> Any:
    found = model.metadata.get(f"{model.arch}.{key}")
    return None if found is None else found.decode()


class TestDraftHeads:
    def test_without_any_there_is_no_layer_for_them(self, tmp_path: Path) -> None:
        model = open_model(write_recorded("qwen35moe", tmp_path, without("mtp.")))
        assert (value(model, "block_count"), value(model, "nextn_predict_layers")) == (4, None)
        assert value(model, "attention.recurrent_layers") == [True, True, True, False]

    def test_names_are_searched_once(self) -> None:
        """A model of 512 experts has 70,000 tensors, and 1,500 of a draft head, each of which asks."""
        config = Config(path=Path("config.json"), values={}, stored=Names(["model.mtp.layers.1.norm.weight"]))
        assert [config.stored_layers(_HEADS) for _ in range(3)] == [2, 2, 2]
        assert Names.searched == 1

    def test_their_number_may_stand_in_the_names_only(self, tmp_path: Path) -> None:
        model = open_model(write_recorded("qwen3next", tmp_path))
        assert (value(model, "block_count"), value(model, "nextn_predict_layers")) == (5, 1)

    def test_config_json_says_there_are_none(self, tmp_path: Path) -> None:
        folder = edit_config(write_recorded("qwen3next", tmp_path), mtp_num_hidden_layers=0)
        model = open_model(folder)
        assert value(model, "block_count") == 4
        assert not any(".nextn." in tensor.name or "blk.4." in tensor.name for tensor in model.tensors)

    def test_minicpm_v_goes_without(self, tmp_path: Path) -> None:
        def add(weights: Weights) -> None:
            weights["model.merger.mlp.0.weight"] = ("BF16", [4, 4])

        folder = write_recorded("qwen35", tmp_path, add)
        model = open_model(edit_config(folder, architectures=["MiniCPMV4_6ForConditionalGeneration"]))
        assert (model.arch, value(model, "block_count")) == ("qwen35", 4)

    def test_names_with_the_model_s_in_front(self, tmp_path: Path) -> None:
        def rename(weights: Weights) -> None:
            for name in [name for name in weights if name.startswith("mtp.")]:
                weights[f"model.{name}"] = weights.pop(name)

        model = open_model(write_recorded("qwen35", tmp_path, rename))
        assert value(model, "nextn_predict_layers") == 1

    def test_half_a_head(self, tmp_path: Path) -> None:
        folder = write_recorded("qwen35moe", tmp_path, without("mtp.pre_fc_norm_hidden"))
        with pytest.raises(ModelError, match=r"blk\.4\.nextn\.hnorm\.weight\) is missing"):
            open_model(folder)

    @pytest.mark.parametrize("number", ["7", "9" * 5000])
    def test_a_head_that_can_t_be(self, number: str, tmp_path: Path) -> None:
        def add(weights: Weights) -> None:
            weights[f"mtp.layers.{number}.input_layernorm.weight"] = ("BF16", [64])

        with pytest.raises(ModelError):
            open_model(write_recorded("qwen35moe", tmp_path, add))


class TestLinearAttention:
    def test_as_many_keys_as_values(self, tmp_path: Path) -> None:
        """Nothing changes places then."""

        def shrink(weights: Weights) -> None:
            lengths = {"in_proj_qkv.weight": [96, 64], "in_proj_z.weight": [32, 64], "out_proj.weight": [64, 32],
                       "conv1d.weight": [96, 1, 4], "A_log": [2], "dt_bias": [2], "in_proj_a.weight": [2, 64],
                       "in_proj_b.weight": [2, 64]}  # fmt: skip
            for name, (kind, _) in list(weights.items()):
                for end, shape in lengths.items():
                    if name.endswith(f"linear_attn.{end}"):
                        weights[name] = (kind, shape)

        folder = write_recorded("qwen35moe", tmp_path, shrink)
        model = open_model(edit_config(folder, lambda it: it["text_config"].update(linear_num_value_heads=2)))
        gate = model.sources["blk.0.attn_gate.weight"]
        assert [extent.nbytes for extent in gate.extents] == [2 * 32 * 64]
        assert type(gate).__name__ == "Stored"

    def test_values_are_tiled(self, tmp_path: Path) -> None:
        """The first value head of each key head, then the second: rows of b, which has one for each head."""
        model = open_model(write_recorded("qwen35moe", tmp_path))
        with TensorReader() as reader:
            beta = model.sources["blk.1.ssm_beta.weight"]
            (extent,) = beta.extents
            stored = np.frombuffer(extent.path.read_bytes()[extent.offset :][: extent.nbytes], "<u2")
            wanted = stored.reshape(2, 2, 64).swapaxes(0, 1).reshape(4, 64).astype("<u4") << 16
            assert np.array_equal(read_whole(beta, reader), wanted.view("<f4"))

    @pytest.mark.parametrize(
        ("name", "tensor", "shape", "message"),
        [
            ("qwen35moe", "in_proj_qkv.weight", [120, 64], "which 4 heads of 16 can't share"),
            ("qwen35moe", "in_proj_qkv.weight", [60, 64], "expected: more than 64 rows"),
            ("qwen35moe", "out_proj.weight", [64, 60], "expected: 64 columns"),
            ("qwen35moe", "A_log", [3], "which 4 heads of 1 can't share"),
            ("qwen3next", "in_proj_qkvz.weight", [190, 64], "expected: 192 rows"),
        ],
    )
    def test_sizes_that_don_t_fit(
        self, name: str, tensor: str, shape: list[int], message: str, tmp_path: Path
    ) -> None:
        def change(weights: Weights) -> None:
            found = next(it for it in weights if it.endswith(f".linear_attn.{tensor}"))
            weights[found] = (weights[found][0], shape)

        with pytest.raises(ModelError, match=message):
            open_model(write_recorded(name, tmp_path, change))

    def test_heads_that_can_t_be_shared(self, tmp_path: Path) -> None:
        folder = edit_config(write_recorded("qwen3next", tmp_path), linear_num_value_heads=3)
        with pytest.raises(ModelError, match="linear_num_value_heads: 3, which 2 heads of keys can't share"):
            open_model(folder)

    def test_fewer_types_than_layers(self, tmp_path: Path) -> None:
        folder = edit_config(write_recorded("qwen3next", tmp_path), layer_types=["linear_attention"])
        with pytest.raises(ModelError, match="has 1 values for 4 layers under layer_types"):
            open_model(folder)
