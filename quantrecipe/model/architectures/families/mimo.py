"""MiMo V2, from Xiaomi: layers of two kinds, with experts in most of them, and three draft heads.

    hybrid_layer_pattern 0    attention to everything, num_key_value_heads
    hybrid_layer_pattern 1    attention within a window, swa_num_key_value_heads, a sink for each head
    draft heads               as the second kind, without experts

Keys are longer than values. Checkpoints have the draft heads under names of their own, and config.json doesn't tell
how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, common_pairs, head_dim
from quantrecipe.model.architectures.layout import DENSE, EXPERTS, HEAD, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.rope import rotated
from quantrecipe.model.architectures.rules import Stack, language_name, template
from quantrecipe.model.architectures.shared.experts import BIAS, DRAFT_NAMES, draft_part
from quantrecipe.model.pairs import Pairs, f32, i32s, u32

__all__ = ["ALL", "MIMO2", "MIMO2_FUSED"]

_DRAFTS = 3
_EPSILON = 1e-5
_KEYS, _VALUES = "key_value_heads · head_dim", "key_value_heads · v_head_dim"
_QUERIES = "num_attention_heads · head_dim"


def _layers(config: Config) -> int:
    return config.need(*LAYERS) + _DRAFTS


def _drafts(config: Config) -> range:
    return range(config.need(*LAYERS), _layers(config))


def _windows(config: Config) -> list[int]:
    """1 for each layer whose attention is to a window, 0 for each other one."""
    return [*config.counts(config.need(*LAYERS), "hybrid_layer_pattern"), *[1] * _DRAFTS]


def _key_value_heads(config: Config, layer: int) -> int:
    return config.need("swa_num_key_value_heads" if _windows(config)[layer] == 1 else "num_key_value_heads")


def _with_experts(config: Config) -> list[int]:
    kinds = config.counts(config.need(*LAYERS), "moe_layer_freq")
    return [layer for layer, kind in enumerate(kinds) if kind]


def _dense(config: Config) -> Iterable[int]:
    return sorted(set(range(_layers(config))) - set(_with_experts(config)))


def _pairs(config: Config) -> Pairs:
    windows = _windows(config)
    pairs: Pairs = {
        "mimo2.attention.head_count_kv": i32s([_key_value_heads(config, i) for i in range(len(windows))]),
        "mimo2.attention.sliding_window": u32(config.need("sliding_window")),
        "mimo2.attention.sliding_window_pattern": i32s(windows),
        "mimo2.attention.value_length": u32(config.need("v_head_dim")),
        "mimo2.expert_count": u32(config.need("n_routed_experts")),
        "mimo2.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        "mimo2.rope.dimension_count": u32(rotated(config, head_dim(config))),
        "mimo2.attention.layer_norm_rms_epsilon": f32(config.number("layernorm_epsilon") or _EPSILON),
    }
    if (scale := config.number("attention_value_scale")) is not None:
        pairs["mimo2.attention.value_scale"] = f32(scale)
    return pairs | {"mimo2.nextn_predict_layers": u32(_DRAFTS)}


def _rename(name: str) -> str | None:
    """The sinks are vectors without an end of their name that says so."""
    found = language_name(name)
    return f"{found}.weight" if found is not None and found.endswith("attention_sink_bias") else found


def _draft_name(config: Config, name: str) -> str:
    """The draft heads' layers come behind the others."""
    match = template("model.mtp.layers.{layer}.{rest:*}").fullmatch(name)
    if match is None:
        return name
    if (head := int(match["layer"])) >= _DRAFTS:
        config.fail(f"is of a model with more than {_DRAFTS} draft heads: there is a tensor {name!r}")
    return f"model.layers.{config.need(*LAYERS) + head}.{match['rest']}"


def _refuse(config: Config) -> str | None:
    """Why a checkpoint can't be read: the number of parts in which its fused q, k and v lie isn't told."""
    quantized = config.find("quantization_config")
    if not isinstance(quantized, dict):
        return None
    if quantized.get("store_dtype") == "mxfp4":
        return "has experts in MXFP4 beside weights in FP8, which can't be read together"
    if "MiMoV2ForCausalLM" in config.classes:
        return "has q, k and v in one FP8 matrix, in the order of the machines it was trained on"
    return None


_EACH: Shapes = layers(
    {
        "attn_norm.weight": ("hidden_size",),
        "attn_output.weight": ("hidden_size", "num_attention_heads · v_head_dim"),
        "ffn_norm.weight": ("hidden_size",),
    }
)
_SEPARATE: Shapes = layers(
    {
        "attn_q.weight": (_QUERIES, "hidden_size"),
        "attn_k.weight": (_KEYS, "hidden_size"),
        "attn_v.weight": (_VALUES, "hidden_size"),
    }
)
_FUSED: Shapes = layers({"attn_qkv.weight": (f"{_QUERIES} + {_KEYS} + {_VALUES}", "hidden_size")})
_TRUNK: Shapes = {
    "token_embd.weight": ("vocab_size", "hidden_size"),
    "output_norm.weight": ("hidden_size",),
    **HEAD,
    **_EACH,
}
_PARTS = (
    Part(where=_with_experts, required=EXPERTS, optional=BIAS),
    Part(where=_dense, required=DENSE),
    Part(
        where=lambda config: range(_layers(config)),
        optional=layers({"attn_sinks.weight": ("num_attention_heads",)}),
        loose=True,
    ),
    draft_part(_drafts, layers({"layer_output_norm.weight": ("hidden_size",)})),
)

MIMO2 = Architecture(
    name="mimo2",
    classes=("MiMoV2FlashForCausalLM",),
    layout=Layout(required=_TRUNK | _SEPARATE, parts=_PARTS, drafts=_drafts),
    refuse=_refuse,
    layers=_layers,
    common=lambda arch, config: common_pairs(arch, config, epsilon=False),
    pairs=_pairs,
    rename=_rename,
    draft_name=_draft_name,
    rules=(
        Stack(names="model.layers.{layer}.mlp.experts.{expert}.{matrix:gate_proj|up_proj|down_proj}.weight"),
    ),
    names={
        **DRAFT_NAMES,
        "model.layers.{layer}.pre_mlp_layernorm": "blk.{layer}.ffn_norm",
        "model.layers.{layer}.final_layernorm": "blk.{layer}.layer_output_norm",
        "model.layers.{layer}.self_attn.qkv_proj": "blk.{layer}.attn_qkv",
    },
    lengths={"key_value_heads": _key_value_heads},
)

MIMO2_FUSED = replace(
    MIMO2,
    classes=("MiMoV2ForCausalLM",),
    layout=Layout(required=_TRUNK | _FUSED, parts=_PARTS, drafts=_drafts),
)

ALL = (MIMO2, MIMO2_FUSED)
