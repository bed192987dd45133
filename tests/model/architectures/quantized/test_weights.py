"""Quantized checkpoints: the bytes that llama.cpp's converter makes of them, and what is wrong with damaged ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.quantized_checkpoints import Dtypes, checkpoint_of, config_of, content, recorded
from support.sources import whole

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.quantized.weights import weights_of
from quantrecipe.model.source.dequantize import BitNet, Fp8, PackedInt
from quantrecipe.model.source.floats import from_float32, table_of_8_bits
from quantrecipe.model.source.layout import Columns, Transpose, reshape, rope_order, rows, stack
from quantrecipe.model.source.repack import MXFP4
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
    found, expected = read("gpt-oss", tmp_path), converted("gpt-oss")
    experts = "model.layers.0.mlp.experts"
    agree(found[f"{experts}.down_proj"], expected["blk.0.ffn_down_exps.weight"])
    both, bias = found[f"{experts}.gate_up_proj"], found[f"{experts}.gate_up_proj_bias"]
    for place, role in enumerate(("gate", "up")):
        agree(rows(both, place, both.rows, 2), expected[f"blk.0.ffn_{role}_exps.weight"])
        taken = Columns(source=bias, index=tuple(range(place, bias.cols, 2)))
        shape, type_, _ = expected[f"blk.0.ffn_{role}_exps.bias"]
        assert ([*taken.shape], type_) == (shape, "F32")  # it becomes float32 when it is written
    assert not [name for name in found if name.endswith(("_blocks", "_scales"))]


def test_a_layer_of_deepseek_v4(tmp_path: Path) -> None:
    """Experts in MXFP4 that are declared as I8, and stacked; all else in FP8, with scales that are powers of two."""
    found, expected = read("deepseek4", tmp_path), converted("deepseek4")
    for matrix, role in {"w1": "gate", "w2": "down", "w3": "up"}.items():
        whole_stack = stack([found[f"layers.0.ffn.experts.{e}.{matrix}.weight"] for e in range(4)])
        assert isinstance(whole_stack, MXFP4)
        agree(whole_stack, expected[f"blk.0.ffn_{role}_exps.weight"])
    scale, weight = content("layers.0.attn.wkv.scale", "F8_E8M0", (1, 1)), found["layers.0.attn.wkv.weight"]
    raw = content("layers.0.attn.wkv.weight", "F8_E4M3", (32, 64))
    numbers = table_of_8_bits("F8_E4M3")[np.frombuffer(raw, np.uint8)] * np.float32(2.0) ** (scale[0] - 127)
    assert np.array_equal(whole(weight), from_float32(numbers.reshape(32, 64), "BF16"))
    assert not [name for name in found if name.endswith(".scale")]


def test_a_layer_of_nvfp4(tmp_path: Path) -> None:
    """Bit for bit, rows of q and k in llama.cpp's order; with the factors of weights and inputs."""
    found, expected = read("llama3-nvfp4", tmp_path), converted("llama3-nvfp4")
    heads = {"attn_q": 4, "attn_k": 2}
    for role, module in _LLAMA.items():
        source = found[f"model.layers.0.{module}.weight"]
        if role in heads:
            source = rope_order(source, heads[role])
        agree(source, expected[f"blk.0.{role}.weight"])
        for factor in ("scale", "input_scale"):
            agree(found[f"model.layers.0.{module}.{factor}"], expected[f"blk.0.{role}.{factor}"])
    assert len([name for name in found if "scale" in name]) == 2 * len(_LLAMA)


FP8 = {"quant_method": "fp8", "weight_block_size": [4, 4]}
WEIGHTS: Dtypes = {
    "a.weight": ("F8_E4M3", (8, 8)),
    "a.weight_scale_inv": ("F32+", (2, 2)),
    "norm.weight": ("BF16", (8,)),
}


def compressed(format_: str, **weights: Any) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "config_groups": {"group_0": {"weights": weights}},
    }


def packed(**weights: Any) -> dict[str, Any]:
    group = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 4} | weights
    return compressed("pack-quantized", **group)


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


@pytest.mark.parametrize(
    ("settings", "dtypes", "class_", "stored_type"),
    [
        (
            {"quant_method": "bitnet"},
            {"a.weight": ("U8", (2, 8)), "a.weight_scale": ("BF16+", (1,))},
            BitNet,
            "TERNARY",
        ),
        (
            {"quant_method": "fp8", "store_dtype": "mxfp4"},
            {"a.weight": ("U8", (8, 16)), "a.weight_scale": ("U8E", (8, 1))},
            MXFP4,
            "MXFP4",
        ),
        (
            {"quant_method": "fp8"},
            {"a.weight": ("F8_E5M2", (8, 8)), "a.weight_scale_inv": ("F32+", ())},
            Fp8,
            "FP8",
        ),
        (
            {"quant_method": "fp8"},
            {"a.weight": ("F8_E4M3", (8, 8)), "a.weight_scale_inv": ("U8E", (8,))},
            Fp8,
            "FP8",
        ),
        (
            compressed("int-quantized", type="int", num_bits=8, strategy="channel"),
            {"a.weight": ("I8", (8, 8)), "a.weight_scale": ("BF16+", (8, 1))},
            Fp8,
            "INT8",
        ),
        (
            compressed("naive-quantized", type="float", num_bits=8, strategy="tensor"),
            {"a.weight": ("F8_E4M3", (8, 8)), "a.weight_scale": ("BF16+", (1,))},
            Fp8,
            "FP8",
        ),
        (
            compressed("pack-quantized", type="int", num_bits=8, strategy="channel"),
            {"a.weight_packed": ("I32", (8, 2)), "a.weight_scale": ("BF16+", (8, 1))},
            PackedInt,
            "INT8",
        ),
        (
            compressed("mxfp4-pack-quantized", type="float", num_bits=4, strategy="group"),
            {"a.weight_packed": ("U8", (8, 16)), "a.weight_scale": ("U8E", (8, 1))},
            MXFP4,
            "MXFP4",
        ),
    ],
)
def test_what_each_method_stores(
    settings: Any, dtypes: Dtypes, class_: type[TensorSource], stored_type: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(tmp_path, {**dtypes, "norm.weight": ("BF16", (8,))})
    found = weights_of(config_of(tmp_path, settings), checkpoint)
    assert [*found] == ["a.weight", "norm.weight"] or [*found] == ["norm.weight", "a.weight"]
    made = found["a.weight"]
    assert (type(made), made.stored_type, made.shape[0]) == (class_, stored_type, 8)
    assert found["norm.weight"].stored_type == "BF16"
    assert whole(made).shape[0] == 8


def test_mixed_precision(tmp_path: Path) -> None:
    """Each tensor says what it is: FP8 in one layer, int4 in another, BF16 in a third."""
    groups = {
        "a": {"format": "pack-quantized", "weights": {"num_bits": 4, "strategy": "group", "group_size": 4}},
        "b": {
            "format": "float-quantized",
            "weights": {"type": "float", "num_bits": 8, "strategy": "channel"},
        },
    }
    settings = {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups}
    dtypes: Dtypes = {
        **PACKED,
        "b.weight": ("F8_E4M3", (8, 8)),
        "b.weight_scale": ("BF16+", (8, 1)),
        "c.weight": ("BF16", (8, 8)),
    }
    found = weights_of(config_of(tmp_path, settings), checkpoint_of(tmp_path, dtypes))
    assert {name: it.stored_type for name, it in found.items()} == {
        "a.weight": "INT4",
        "b.weight": "FP8",
        "c.weight": "BF16",
    }


@pytest.mark.parametrize(
    "scales", [(2, 2, 2), (2,), (2, 1, 1), (2, 8)], ids=["blocks", "matrices", "matrices of 1", "rows"]
)
def test_a_stack_that_is_stored_as_one(scales: tuple[int, ...], tmp_path: Path) -> None:
    """Experts in one tensor, whose name has no .weight."""
    name = "model.language_model.layers.0.mlp.experts.gate_up_proj"
    dtypes: Dtypes = {name: ("F8_E4M3", (2, 8, 8)), f"{name}_scale_inv": ("F32+", scales)}
    settings = FP8 if len(scales) == 3 and scales[-1] == 2 else {"quant_method": "fp8"}
    ((found, made),) = weights_of(config_of(tmp_path, settings), checkpoint_of(tmp_path, dtypes)).items()
    assert (found, made.shape, made.dtype) == (name, (2, 8, 8), "BF16")
    raw = np.frombuffer(content(name, "F8_E4M3", (2, 8, 8)), np.uint8).reshape(2, 8, 8)
    factors = np.frombuffer(content(f"{name}_scale_inv", "F32+", scales), "<f4").reshape(scales)
    if settings is FP8:
        factors = factors.repeat(4, axis=1).repeat(4, axis=2)
    numbers = table_of_8_bits("F8_E4M3")[raw] * factors.reshape(*factors.shape, *[1] * (3 - factors.ndim))
    assert np.array_equal(whole(made), from_float32(numbers.reshape(16, 8), "BF16"))


def test_experts_of_one_layer_are_stored_alike(tmp_path: Path) -> None:
    """Of a layer, and not of all: mixed precision by layer is usual."""
    fp8: Dtypes = {
        f"model.layers.{layer}.mlp.experts.{e}.up_proj.{part}": of
        for layer, e in ((0, 0), (0, 1), (2, 0))
        for part, of in {"weight": ("F8_E4M3", (8, 8)), "weight_scale_inv": ("F32+", (2, 2))}.items()
    }
    dtypes = {**fp8, "model.layers.1.mlp.experts.0.up_proj.weight": ("BF16", (8, 8))}
    assert len(weights_of(config_of(tmp_path, FP8), checkpoint_of(tmp_path, dtypes))) == 4
    wrong = {**dtypes, "model.layers.2.mlp.experts.1.up_proj.weight": ("BF16", (8, 8))}
    said = r"'model.layers.2.*experts.1.up_proj.weight' is BF16, unlike '.*experts.0.up_proj.weight', which is FP8"
    with pytest.raises(ModelError, match=said) as error:
        weights_of(config_of(tmp_path, FP8), checkpoint_of(tmp_path, wrong))
    assert error.value.problems[0].file == tmp_path / "model.safetensors"


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
        (
            {"quant_method": "gptq", "bits": 4},
            without("a.qweight", GPTQ_TENSORS),
            "'a.qweight' is missing, which 'a.(qzeros|scales|g_idx)' needs",
        ),
        (
            packed(),
            {"a.weight_shape": ("I64=[8, 8]", (2,))},
            "'a.weight_packed' is missing, which 'a.weight_shape'",
        ),
        (
            {"quant_method": "mxfp4"},
            {"e.down_proj_blocks": ("U8", (2, 8, 1, 16))},
            "'e.down_proj_scales' is missing, which 'e.down_proj_blocks' needs",
        ),
        (
            {"quant_method": "mxfp4"},
            {"e.down_proj_scales": ("U8E", (2, 8, 1))},
            "'e.down_proj_blocks' is missing, which 'e.down_proj_scales' needs",
        ),
        (
            {"quant_method": "mxfp4"},
            {"e.down_proj_blocks": ("U8", (2, 8, 1, 8)), "e.down_proj_scales": ("U8E", (2, 8, 1))},
            "'e.down_proj_blocks' .* doesn't have 16 bytes for each scale",
        ),
        (
            {"quant_method": "mxfp4"},
            {"e.down_proj_blocks": ("U8", (8, 16)), "e.down_proj_scales": ("U8E", (8,))},
            r"'e.down_proj_blocks' .* \(expected: experts, rows, blocks, 16\)",
        ),
        (
            {"quant_method": "bitnet"},
            {"a.weight": ("U8", (2, 8))},
            "'a.weight' is U8, and its scale a.weight_scale is missing",
        ),
        (
            {"quant_method": "fp8"},
            {"a.scale": ("F8_E8M0", (1, 1)), "a.weight": ("F8_E4M3", (8, 8)), "b.weight": ("I8", (8, 8))},
            "'b.weight' is I8, and its scale b.scale is missing",
        ),
        (
            compressed("int-quantized", type="int", num_bits=8, strategy="channel"),
            {
                "a.weight": ("I8", (8, 8)),
                "a.weight_scale": ("BF16+", (8, 1)),
                "a.weight_zero_point": ("I8", (8, 1)),
            },
            "'a.weight_zero_point' has the zero points of 'a.weight', which aren't read",
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
        ({**packed(), "config_groups": ["a"]}, r"says config_groups: \['a'\] \(expected: an object\)"),
        ({**packed(), "config_groups": {"a": {"weights": {}, "format": "awq"}}}, "with weights that are awq"),
        (
            {"quant_method": "fp8", "mxfp4_block_size": 16},
            r"mxfp4_block_size: 16 \(expected: 32, as in ggml\)",
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
