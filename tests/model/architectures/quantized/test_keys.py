"""What the metadata says of quantized weights, and hf_quant_config.json, which may say it in config.json's place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.quantized_checkpoints import Dtypes, checkpoint_of, config_of

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.quantized.keys import (
    computes_in_16_bits,
    quantized_file_type,
    tensor_extra_pairs,
)
from quantrecipe.model.architectures.quantized.weights import weights_of

NVFP4: Dtypes = {"a.weight": ("U8", (8, 32)), "a.weight_scale": ("F8_E4M3", (8, 4))}


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (["BF16", "F32"], "BF16"),
        (["BF16", "MXFP4", "F32"], "MXFP4_MOE"),
        (["NVFP4", "F32", "MXFP4"], "NVFP4"),
        ([], "BF16"),
    ],
)
def test_file_type(types: list[str], said: str) -> None:
    assert quantized_file_type(types) == said


def test_16_bits_by_module(tmp_path: Path) -> None:
    """The module that is nearest decides; then the file."""
    settings = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {
            "model.language_model.layers.0.mlp": {"quant_algo": "W4A16_NVFP4"},
            "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4"},
            "model.layers.1": "of no use",
        },
    }
    find = computes_in_16_bits(config_of(tmp_path, settings))
    assert find("model.layers.0.mlp.down_proj.weight")
    assert find("model.language_model.layers.0.mlp.experts.down_proj.weight")
    assert not find("model.layers.0.mlp.up_proj.weight")
    assert not find("model.layers.1.mlp.down_proj.weight")


def test_16_bits_everywhere_or_nowhere(tmp_path: Path) -> None:
    settings = {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}
    assert computes_in_16_bits(config_of(tmp_path, settings))("a.weight")
    assert not computes_in_16_bits(config_of(tmp_path, None))("a.weight")


def test_extra_keys() -> None:
    found = tensor_extra_pairs(["b.weight", "a.weight"])
    assert {key: value.decode() for key, value in found.items()} == {
        "general.tensor_extra.name": ["a.weight", "b.weight"],
        "general.tensor_extra.prec_a4": [False, False],
    }
    assert [*found] == ["general.tensor_extra.name", "general.tensor_extra.prec_a4"]
    assert tensor_extra_pairs([]) == {}


def test_modelopt_s_own_file(tmp_path: Path) -> None:
    content = {"producer": {"name": "ModelOpt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(content), encoding="utf-8")
    for settings in (None, {"quant_method": "modelopt"}):
        found = weights_of(config_of(tmp_path, settings), checkpoint_of(tmp_path, NVFP4))
        assert {name: it.dtype for name, it in found.items()} == {"a.weight": "NVFP4"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"quantization": 4}, r"says quantization: 4 \(expected: an object\)"),
        ({"producer": "modelopt", "quantization": {}}, r"says producer: 'modelopt' \(expected: an object\)"),
        (
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "W4A8_AWQ"}},
            r"quantized by modelopt W4A8_AWQ \(what can be read: FP8, .*NVFP4, W4A16_NVFP4\)",
        ),
        ({"quantization": {"quant_algo": "NVFP4"}}, r"by an unknown method"),
    ],
)
def test_what_is_wrong_with_it(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=said) as error:
        weights_of(config_of(tmp_path, None), checkpoint_of(tmp_path, NVFP4))
    assert error.value.problems[0].file == tmp_path / "hf_quant_config.json"


def test_settings_of_modules_that_are_no_object(tmp_path: Path) -> None:
    settings = {"quant_method": "modelopt", "quant_algo": "NVFP4", "quantized_layers": [1]}
    with pytest.raises(
        ModelError, match=r"config.json: says quantized_layers: \[1\] \(expected: an object\)"
    ):
        computes_in_16_bits(config_of(tmp_path, settings))("a.weight")
