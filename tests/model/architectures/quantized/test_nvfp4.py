"""NVFP4's factors: which of them become tensors, and what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.quantized_checkpoints import Dtypes, checkpoint_of, config_of, content
from support.recorded_architectures import write_edited
from support.sources import whole

from quantrecipe.errors import ModelError
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.model.architectures.quantized.weights import weights_of
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.layout import concat, stack
from quantrecipe.model.source.repack import NVFP4
from quantrecipe.model.source.source import Constant, TensorSource

MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized",
    "config_groups": {"g": {"weights": {"type": "float", "num_bits": 4, "strategy": "tensor_group"}}},
}
EXPERTS = "model.layers.0.mlp.experts"


def matrix(stem: str, **factors: tuple[str, tuple[int, ...]]) -> Dtypes:
    """A matrix of 8 x 64 as ModelOpt stores it. factors: weight_scale_2, input_scale."""
    parts = {"weight": ("U8", (8, 32)), "weight_scale": ("F8_E4M3", (8, 4)), **factors}
    return {f"{stem}.{part}": it for part, it in parts.items()}


def read(folder: Path, dtypes: Dtypes, settings: Any = MODELOPT) -> dict[str, TensorSource]:
    return weights_of(config_of(folder, settings), checkpoint_of(folder, dtypes))


def numbers(source: TensorSource) -> list[float]:
    return whole(source).view("<f4").reshape(-1).tolist()


def test_factors_follow_the_weight(tmp_path: Path) -> None:
    found = read(tmp_path, matrix("a", weight_scale_2=("F32+", ()), input_scale=("F32+", ())))
    assert {name: (it.dtype, it.shape) for name, it in found.items()} == {
        "a.weight": ("NVFP4", (8, 64)),
        "a.scale": ("F32", (1,)),
        "a.input_scale": ("F32", (1,)),
    }
    assert found["a.weight"].stored_type == "NVFP4"
    assert whole(found["a.scale"]).tobytes() == content("a.weight_scale_2", "F32+", ())


def test_a_factor_of_1_is_left_out(tmp_path: Path) -> None:
    """Each by itself; one that isn't stored is 1."""
    assert [*read(tmp_path, matrix("a", weight_scale_2=("F32=1", ())))] == ["a.weight"]
    found = read(tmp_path, matrix("a", weight_scale_2=("F32=1", ()), input_scale=("F32+", (1,))))
    assert [*found] == ["a.weight", "a.input_scale"]


def test_compressed_tensors_names_and_inverse_factors(tmp_path: Path) -> None:
    dtypes: Dtypes = {
        "a.weight_packed": ("U8", (8, 32)),
        "a.weight_scale": ("F8_E4M3", (8, 4)),
        "a.weight_global_scale": ("F32+", (1,)),
        "a.input_global_scale": ("F32+", (1,)),
        "b.weight": ("BF16", (8, 8)),
    }
    found = read(tmp_path, dtypes, COMPRESSED)
    assert sorted(found) == ["a.input_scale", "a.scale", "a.weight", "b.weight"]
    assert isinstance(found["a.weight"], NVFP4)
    stored = np.frombuffer(content("a.weight_global_scale", "F32+", (1,)), "<f4")
    assert numbers(found["a.scale"]) == (np.float32(1) / stored).tolist()


def test_the_experts_of_a_stack_have_factors_together(tmp_path: Path) -> None:
    """Also those whose factor is 1, or isn't stored; another stack is another matter."""
    dtypes = {
        **matrix(f"{EXPERTS}.0.up_proj", weight_scale_2=("F32=1", ())),
        **matrix(f"{EXPERTS}.1.up_proj", weight_scale_2=("F32+", ())),
        **matrix(f"{EXPERTS}.2.up_proj"),
        **matrix(f"{EXPERTS}.0.down_proj", weight_scale_2=("F32=1", ())),
        **matrix(f"{EXPERTS}.1.down_proj", weight_scale_2=("F32=1", ())),
    }
    found = read(tmp_path, dtypes)
    scales = [found[f"{EXPERTS}.{e}.up_proj.scale"] for e in range(3)]
    other = np.frombuffer(content(f"{EXPERTS}.1.up_proj.weight_scale_2", "F32+", ()), "<f4")[0]
    assert numbers(concat(scales)) == [1, other, 1]
    assert concat(scales).shape == (3,)
    assert isinstance(scales[2], Constant)
    assert isinstance(stack([found[f"{EXPERTS}.{e}.up_proj.weight"] for e in range(3)]), NVFP4)
    assert [name for name in found if name.endswith("scale")] == [
        f"{EXPERTS}.{e}.up_proj.scale" for e in range(3)
    ]


def test_a_stack_that_is_stored_as_one_has_a_factor_for_each_expert(tmp_path: Path) -> None:
    dtypes: Dtypes = {
        "e.weight": ("U8", (3, 8, 32)),
        "e.weight_scale": ("F8_E4M3", (3, 8, 4)),
        "e.weight_scale_2": ("F32=1", (3, 1, 1)),
    }
    found = read(tmp_path, dtypes)
    assert (found["e.weight"].shape, found["e.scale"].shape) == ((3, 8, 64), (3,))


def test_mixed_precision(tmp_path: Path) -> None:
    """NVFP4 in one layer, FP8 in another, BF16 in a third; what is for engines that compute in 8 bits is left out."""
    dtypes: Dtypes = {
        **matrix("a"),
        "b.weight": ("F8_E4M3", (8, 8)),
        "b.weight_scale": ("F32+", ()),
        "b.input_scale": ("F32+", ()),
        "b.k_scale": ("F32+", ()),
        "c.weight": ("BF16", (8, 8)),
    }
    settings = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
    found = read(tmp_path, dtypes, settings)
    assert {name: it.stored_type for name, it in found.items()} == {
        "a.weight": "NVFP4",
        "b.weight": "FP8",
        "c.weight": "BF16",
    }


@pytest.mark.parametrize(
    ("dtypes", "said"),
    [
        ({"a.weight": ("U8", (8, 32))}, "'a.weight' is U8, and its scale a.weight_scale is missing"),
        (
            {"a.weight_scale": ("F8_E4M3", (8, 4))},
            "'a.weight' is missing, which 'a.weight_scale' is the scale of",
        ),
        ({"a.weight_scale_2": ("F32+", ())}, "'a.weight' is missing, which 'a.weight_scale_2' needs"),
        (
            {"a.weight": ("U8", (8, 32)), "a.weight_scale": ("F8_E4M3", (8, 5))},
            "'a.weight' .* doesn't have 8 bytes for each scale",
        ),
        (
            {"a.weight": ("U8", (8, 24)), "a.weight_scale": ("F8_E4M3", (8, 3))},
            "'a.weight' .* has rows of 48 weights, which aren't whole blocks of 64",
        ),
        (
            matrix("a", weight_scale_2=("F32+", (8,))),
            r"'a.weight_scale_2' .* can't be a factor \(expected: 1 of F32",
        ),
        (matrix("a", weight_scale_2=("I32", ())), "'a.weight_scale_2' .* can't be a factor"),
    ],
)
def test_an_error_names_the_tensor_and_the_file(dtypes: Dtypes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said) as error:
        read(tmp_path, dtypes)
    assert error.value.problems[0].file == tmp_path / "model.safetensors"
    assert error.value.problems[0].remedy


def test_activations_that_are_scaled_first(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"config.json.*activations are scaled first \('a.pre_quant_scale'\)"
    ):
        read(tmp_path, {**matrix("a"), "a.pre_quant_scale": ("BF16", (64,))})


def test_factors_of_experts_become_vectors_of_the_model(tmp_path: Path) -> None:
    """From the folder to the GGUF: experts one by one, factors of one kind of matrix alone, and 16-bit activations."""
    up, gate = (f"{EXPERTS}.{{}}.{name}_proj" for name in ("up", "gate"))

    def quantize(tensors: dict[str, tuple[str, list[int]]]) -> None:
        for expert in range(4):
            for stem in (up.format(expert), gate.format(expert)):
                tensors[f"{stem}.weight"] = ("U8", [32, 32])
                tensors[f"{stem}.weight_scale"] = ("F8_E4M3", [32, 4])
            tensors[f"{up.format(expert)}.weight_scale_2"] = ("F32+", [])

    settings = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {f"{EXPERTS}.up_proj": {"quant_algo": "W4A16_NVFP4"}},
    }
    model = open_model(write_edited("qwen3moe", tmp_path, quantize, quantization_config=settings))
    kinds = {it.name: (it.dtype, it.shape) for it in model.tensors if "blk.0.ffn_" in it.name}
    assert kinds["blk.0.ffn_up_exps.weight"] == kinds["blk.0.ffn_gate_exps.weight"] == ("NVFP4", (4, 32, 64))
    assert kinds["blk.0.ffn_up_exps.scale"] == ("F32", (4,))
    assert "blk.0.ffn_gate_exps.scale" not in kinds
    factors = b"".join(content(f"{up.format(it)}.weight_scale_2", "F32+", ()) for it in range(4))
    assert whole(model.sources["blk.0.ffn_up_exps.scale"]).tobytes() == factors
    assert model.metadata["general.file_type"].decode() == FILE_TYPES["NVFP4"]
    assert model.metadata["general.tensor_extra.name"].decode() == ["blk.0.ffn_up_exps.weight"]
