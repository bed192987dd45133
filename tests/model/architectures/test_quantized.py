"""Quantized checkpoints: the bytes that llama.cpp's converter makes of them, and what is wrong with damaged ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from support.quantized_checkpoints import Dtypes, checkpoint_of, config_of, recorded
from support.sources import whole

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.quantized import weights_of
from quantrecipe.model.source.dequantize import Fp8
from quantrecipe.model.source.layout import Columns, Transpose, reshape, rope_order, rows, stack
from quantrecipe.model.source.repack import MXFP4, NVFP4
from quantrecipe.model.source.source import TensorSource

Sources = dict[str, TensorSource]
_LLAMA = {
    "attn_k": "self_attn.k_proj", "attn_output": "self_attn.o_proj", "attn_q": "self_attn.q_proj",
    "attn_v": "self_attn.v_proj", "ffn_down": "mlp.down_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
}  # fmt: skip


def converted(name: str) -> dict[str, Any]:
    return {tensor: tuple(it) for tensor, it in recorded(name)["converted"].items()}


def read(name: str, folder: Path) -> Sources:
    of = recorded(name)
    return weights_of(config_of(folder, of["quantization_config"]), checkpoint_of(folder, of["stored"]))


def agree(source: TensorSource, expected: Any) -> None:
    shape, type_, digest = expected
    assert ([*source.shape], source.dtype) == (shape, type_)
    assert hashlib.sha256(whole(source).tobytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "prefix", "heads"),
    [
        ("llama3-fp8-ct", "model.layers.0", {"attn_q": 4, "attn_k": 2}),
        ("ministral3-fp8", "language_model.model.layers.0", {"attn_q": 4, "attn_k": 2}),
        ("qwen2-gptq", "model.layers.0", {}),
    ],
)
def test_a_layer(name: str, prefix: str, heads: dict[str, int], tmp_path: Path) -> None:
    """A scale for each row, for the tensor, and GPTQ's groups; q and k in llama.cpp's order."""
    found, expected = read(name, tmp_path), converted(name)
    for role, module in _LLAMA.items():
        source = found[f"{prefix}.{module}.weight"]
        if role in heads:
            source = rope_order(source, heads[role])
        agree(source, expected[f"blk.0.{role}.weight"])
    assert not [
        key for key in found if key.endswith(("scale", "scale_inv", "qweight", "qzeros", "g_idx", "scales"))
    ]


def test_a_layer_of_deepseek(tmp_path: Path) -> None:
    """Blocks of 32 x 32; experts in stacks; kv_b in two, of which one is transposed head by head."""
    found, expected = read("deepseek3-fp8", tmp_path), converted("deepseek3-fp8")
    for role, module in {
        "attn_kv_a_mqa": "kv_a_proj_with_mqa",
        "attn_q_a": "q_a_proj",
        "attn_q_b": "q_b_proj",
    }.items():
        agree(found[f"model.layers.1.self_attn.{module}.weight"], expected[f"blk.1.{role}.weight"])
    for matrix in ("down", "gate", "up"):
        experts = [found[f"model.layers.1.mlp.experts.{e}.{matrix}_proj.weight"] for e in range(4)]
        whole_stack = stack(experts)
        assert isinstance(whole_stack, Fp8)
        agree(whole_stack, expected[f"blk.1.ffn_{matrix}_exps.weight"])
    heads = reshape(found["model.layers.1.self_attn.kv_b_proj.weight"], (4, 32, 32))
    agree(Transpose(source=rows(heads, 0, 16)), expected["blk.1.attn_k_b.weight"])
    agree(rows(heads, 16, 32), expected["blk.1.attn_v_b.weight"])


def test_a_layer_of_kimi(tmp_path: Path) -> None:
    """int4 in groups of 32, experts only."""
    found, expected = read("kimi-k2-int4", tmp_path), converted("kimi-k2-int4")
    for matrix in ("down", "gate", "up"):
        experts = [found[f"model.layers.1.mlp.experts.{e}.{matrix}_proj.weight"] for e in range(4)]
        agree(stack(experts), expected[f"blk.1.ffn_{matrix}_exps.weight"])
    assert len(found) == 12


def test_experts_of_gpt_oss(tmp_path: Path) -> None:
    """MXFP4, bit for bit; the rows of gate and up take turns."""
    stored = {
        name: it.source for name, it in checkpoint_of(tmp_path, recorded("gpt-oss")["stored"]).tensors.items()
    }
    expected = converted("gpt-oss")

    def blocks(matrix: str) -> TensorSource:
        it = stored[f"model.layers.0.mlp.experts.{matrix}_blocks"]
        return reshape(it, (*it.shape[:2], it.shape[2] * it.shape[3]))

    def scales(matrix: str) -> TensorSource:
        return stored[f"model.layers.0.mlp.experts.{matrix}_scales"]

    down = MXFP4(blocks=blocks("down_proj"), scales=scales("down_proj"))
    agree(down, expected["blk.0.ffn_down_exps.weight"])
    both = MXFP4(blocks=blocks("gate_up_proj"), scales=scales("gate_up_proj"))
    bias = stored["model.layers.0.mlp.experts.gate_up_proj_bias"]
    for place, role in enumerate(("gate", "up")):
        agree(rows(both, place, both.rows, 2), expected[f"blk.0.ffn_{role}_exps.weight"])
        taken = Columns(source=bias, index=tuple(range(place, bias.cols, 2)))
        shape, type_, _ = expected[f"blk.0.ffn_{role}_exps.bias"]
        assert ([*taken.shape], type_) == (shape, "F32")  # it becomes float32 when it is written


def test_a_layer_of_nvfp4(tmp_path: Path) -> None:
    """Bit for bit, rows of q and k in llama.cpp's order."""
    stored = {
        name: it.source
        for name, it in checkpoint_of(tmp_path, recorded("llama3-nvfp4")["stored"]).tensors.items()
    }
    expected = converted("llama3-nvfp4")
    heads = {"attn_q": 4, "attn_k": 2}
    for role, module in _LLAMA.items():
        name = f"model.layers.0.{module}.weight"
        source: TensorSource = NVFP4(weights=stored[name], scales=stored[f"{name}_scale"])
        if role in heads:
            source = rope_order(source, heads[role])
        agree(source, expected[f"blk.0.{role}.weight"])
        agree(stored[f"{name}_scale_2"], expected[f"blk.0.{role}.scale"])


FP8 = {"quant_method": "fp8", "weight_block_size": [4, 4]}
WEIGHTS: Dtypes = {
    "a.weight": ("F8_E4M3", (8, 8)),
    "a.weight_scale_inv": ("F32+", (2, 2)),
    "norm.weight": ("BF16", (8,)),
}


def without(name: str, dtypes: Dtypes = WEIGHTS) -> Dtypes:
    return {key: it for key, it in dtypes.items() if key != name}


def test_a_checkpoint_that_isn_t_quantized_is_as_it_is(tmp_path: Path) -> None:
    for settings in (None, {}, "none"):
        found = weights_of(config_of(tmp_path, settings), checkpoint_of(tmp_path, WEIGHTS))
        assert {name: (it.dtype, it.shape) for name, it in found.items()} == {
            "a.weight": ("F8_E4M3", (8, 8)),
            "a.weight_scale_inv": ("F32", (2, 2)),
            "norm.weight": ("BF16", (8,)),
        }


@pytest.mark.parametrize(
    "unused",
    [
        "a.input_scale",
        "a.activation_scale",
        "a.down_activation_scale",
        "attn.k_scale",
        "attn.v_scale",
        "a.qscale_act",
    ],
)
def test_scales_of_activations_are_left_out(unused: str, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tmp_path, {**WEIGHTS, unused: ("F32+", ())})
    assert [*weights_of(config_of(tmp_path, FP8), checkpoint)] == ["a.weight", "norm.weight"]


def test_mistral_s_own_names(tmp_path: Path) -> None:
    dtypes: Dtypes = {
        "wq.weight": ("F8_E4M3", (8, 8)),
        "wq.qscale_weight": ("F32+", ()),
        "wq.qscale_act": ("F32+", ()),
    }
    (made,) = weights_of(
        config_of(tmp_path, {"quant_method": "fp8"}), checkpoint_of(tmp_path, dtypes)
    ).items()
    assert (made[0], made[1].dtype) == ("wq.weight", "BF16")


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, ()),
        *(
            (
                {
                    "quant_method": "compressed-tensors",
                    "format": "float-quantized",
                    "config_groups": {
                        "g": {
                            "weights": {
                                "type": "float",
                                "num_bits": 8,
                                "strategy": strategy,
                                "block_structure": block,
                            }
                        }
                    },
                },
                shape,
            )
            for strategy, block, shape in (
                ("tensor", None, (1,)),
                ("channel", None, (8, 1)),
                ("block", [4, 8], (2, 1)),
            )
        ),
    ],
)
def test_other_methods(settings: Any, scale: tuple[int, ...], tmp_path: Path) -> None:
    dtypes: Dtypes = {"a.weight": ("F8_E4M3", (8, 8)), "a.weight_scale": ("BF16+", scale)}
    ((name, made),) = weights_of(config_of(tmp_path, settings), checkpoint_of(tmp_path, dtypes)).items()
    assert (name, made.dtype) == ("a.weight", "BF16")
    assert isinstance(made, Fp8)
    assert made.block == {(): (8, 8), (1,): (8, 8), (8, 1): (1, 8), (2, 1): (4, 8)}[scale]


def packed(**weights: Any) -> dict[str, Any]:
    group = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 4} | weights
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": group}},
    }


PACKED: Dtypes = {"a.weight_packed": ("I32", (8, 1)), "a.weight_scale": ("BF16+", (8, 2))}
GPTQ_TENSORS: Dtypes = {
    "a.qweight": ("I32", (1, 8)),
    "a.qzeros": ("I32", (2, 1)),
    "a.scales": ("F16", (2, 8)),
    "a.g_idx": ("I32/4", (8,)),
}


@pytest.mark.parametrize(
    ("settings", "dtypes", "said"),
    [
        (
            FP8,
            without("a.weight_scale_inv"),
            "tensor 'a.weight' is F8_E4M3, and its scale a.weight_scale_inv is missing",
        ),
        (
            FP8,
            without("a.weight"),
            "tensor 'a.weight' is missing, which 'a.weight_scale_inv' is the scale of",
        ),
        (
            FP8,
            {**WEIGHTS, "a.weight_scale_inv": ("F32+", (2, 3))},
            r"'a.weight' .* has scales of the shape \(2, 3\)",
        ),
        (FP8, {**WEIGHTS, "a.weight_scale_inv": ("I32", (2, 2))}, "'a.weight_scale_inv' .* can't be a scale"),
        (FP8, {**WEIGHTS, "a.weight": ("BF16", (8, 8))}, "'a.weight' .* isn't of a type of 8-bit floats"),
        (
            packed(),
            without("a.weight_scale", PACKED),
            "'a.weight_scale' is missing, which 'a.weight_packed' needs",
        ),
        (
            packed(),
            {**PACKED, "a.weight_g_idx": ("I32", (8,))},
            "'a.weight_packed' has its columns in another order",
        ),
        (
            packed(),
            {**PACKED, "a.weight_scale": ("BF16+", (8, 3))},
            r"'a.weight_scale' .* \(expected: \(8, 2\)\)",
        ),
        (
            {"quant_method": "gptq", "bits": 4},
            without("a.g_idx", GPTQ_TENSORS),
            "'a.g_idx' is missing, which 'a.qweight'",
        ),
    ],
)
def test_an_error_names_the_tensor_and_the_file(
    settings: Any, dtypes: Dtypes, said: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(tmp_path, dtypes)
    with pytest.raises(ModelError, match=said) as error:
        weights_of(config_of(tmp_path, settings), checkpoint)
    assert error.value.problems[0].file == tmp_path / "model.safetensors"
    assert error.value.problems[0].remedy


def test_many_missing_scales_are_abridged(tmp_path: Path) -> None:
    dtypes: Dtypes = {f"layers.{i}.weight": ("F8_E4M3", (8, 8)) for i in range(9)}
    with pytest.raises(ModelError, match="and 4 more like these") as error:
        weights_of(config_of(tmp_path, FP8), checkpoint_of(tmp_path, dtypes))
    assert len(error.value.problems) == 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"quant_method": "awq"},
            r"quantized by awq \(what can be read: bitnet, compressed-tensors, fp8, gptq, modelopt, mxfp4\)",
        ),
        ({"quant_method": 3}, "quantized by an unknown method"),
        (
            {"quant_method": "compressed-tensors", "format": "marlin-24"},
            r"quantized by compressed-tensors marlin-24 \(what can be read: float-quantized, .*mixed-precision\)",
        ),
        ({"quant_method": "modelopt", "quant_algo": "INT4_AWQ"}, "quantized by modelopt INT4_AWQ"),
        (
            {"quant_method": "fp8", "weight_block_size": [128]},
            r"weight_block_size: \[128\] \(expected: rows and columns",
        ),
        ({"quant_method": "fp8", "weight_block_size": [0, 4]}, r"weight_block_size: \[0, 4\]"),
        ({"quant_method": "fp8", "weight_block_size": [True, 4]}, r"weight_block_size: \[True, 4\]"),
        ({"quant_method": "gptq", "bits": 3}, r"says bits: 3 \(expected: 2, 4 or 8\)"),
        ({"quant_method": "gptq", "bits": 4.0}, r"says bits: 4\.0"),
        (packed(num_bits=4.0), r"'int' of 4\.0 bits by 'group'"),
        (packed(num_bits=3), "'int' of 3 bits by 'group'"),
        (packed(strategy="token"), "'int' of 4 bits by 'token'"),
        (packed(group_size=None), "group_size: None"),
        (
            {**packed(), "config_groups": {}},
            r"has 0 config_groups of quantized weights \(expected: 1 or more\)",
        ),
        ({**packed(), "config_groups": {"a": {}}}, "doesn't say how its weights are quantized"),
        ({**packed(), "format": "float-quantized"}, r"'int' of 4 bits \(expected: 'float' of 8 bits\)"),
        (
            {**packed(type="float", num_bits=8, strategy="token"), "format": "float-quantized"},
            r"strategy: 'token' \(expected: tensor, channel or block\)",
        ),
    ],
)
def test_methods_that_aren_t_read(settings: Any, said: str, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tmp_path, without("a.weight_scale_inv"))
    with pytest.raises(ModelError, match=said) as error:
        weights_of(config_of(tmp_path, settings), checkpoint)
    assert error.value.problems[0].file == tmp_path / "config.json"
