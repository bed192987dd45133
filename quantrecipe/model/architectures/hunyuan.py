"""Hunyuan, from Tencent: norms on q and k, and a rotary embedding that is stretched by a factor called alpha.

    hunyuan-dense    Hunyuan 0.5B to 7B
    hunyuan_vl       Hunyuan OCR: the dense one, with rotation by sections
    hunyuan-moe      Hunyuan A13B: experts in each layer, and one for every token
    hy_v3            Hy 3: experts behind dense layers, a bias in choosing them, draft heads

Alpha makes the base frequency larger (NTK-aware): theta · alpha ^ (d / (d - 2)), for heads of length d. A GGUF has the
outcome as if it were the model's own; where rotation goes by sections, llama.cpp computes it from alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture, as_many_as_heads
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import (
    DRAFT,
    DRAFT_NAMES,
    dense_then_experts,
    draft_count,
    draft_pairs,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.hyperparameters import LAYERS, SHARED_EXPERTS, common_pairs, head_dim
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    QK_NORMS,
    Layout,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.rules import tied_output
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, f32, i32s, text, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "HY3"]

_CONTEXT = 256 * 1024
"""What alpha is for, whatever config.json says. Source: the technical report of Hunyuan A13B"""

_THETA = 10_000.0
_CONTEXTS = (32 * 1024, _CONTEXT)  # what is known to stand in config.json
_ALPHA_DENSE, _ALPHA_MOE = 50.0, 1000.0
_SIGMOID = 2  # llama.cpp: enum llama_expert_gating_func_type


def _setting(config: Config, name: str, default: float) -> float:
    value = config.rope_number(name)
    return default if value is None else value


def _stretched(arch: str, config: Config, alpha: float, dim: int) -> Pairs:
    """Make the keys of a rotary embedding whose base frequency is stretched by alpha."""
    theta = _setting(config, "rope_theta", _THETA)
    if dim <= 2 or alpha <= 0 or theta <= 0:
        config.fail("has rope settings of which no base frequency can be made")
    return {
        f"{arch}.rope.freq_base": f32(theta * alpha ** (dim / (dim - 2))),
        f"{arch}.rope.scaling.type": text("none"),
        f"{arch}.rope.scaling.factor": f32(1.0),
    }


def _long_context(arch: str, config: Config) -> Pairs:
    return {
        f"{arch}.rope.scaling.original_context_length": u32(_CONTEXT),
        f"{arch}.context_length": u32(_CONTEXT),
    }


def _unknown_alpha(config: Config) -> str | None:
    """What alpha is for is known for these settings alone; elsewhere the context length would be a guess."""
    if config.rope.get("rope_type") != "dynamic" or "mrope_section" in config.rope:
        return None
    if (theta := _setting(config, "rope_theta", _THETA)) != _THETA:
        return f"stretches a rope_theta of {theta:g} by alpha (known: {_THETA:g}), so its context isn't known"
    if (context := config.count("max_position_embeddings")) not in _CONTEXTS:
        return (
            f"stretches a context of {context} by alpha (known: 32768 and 262144), so its length isn't known"
        )
    return None


def _dense_pairs(config: Config) -> Pairs:
    arch, kind = "hunyuan-dense", config.rope.get("rope_type")
    if kind not in ("dynamic", "xdrope"):
        return {}
    pairs = _stretched(arch, config, _setting(config, "alpha", _ALPHA_DENSE), head_dim(config))
    return pairs | (_long_context(arch, config) if kind == "dynamic" else {})


def _without_experts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Some dense models say that they have one expert."""
    return {name: value for name, value in values.items() if name != "num_experts"}


_END_OF_TEXT = 3
"""What transformers' class has for eod_token_id."""

_HIDDEN_7B, _BOS_7B, _BOS_MOE = 4096, 127_958, 127_959
"""The token that texts begin with, where config.json has another. Source: conversion/hunyuan.py"""


def _moe_tokenizer(config: Config, pairs: Pairs) -> Pairs:
    return {**pairs, "tokenizer.ggml.bos_token_id": u32(_BOS_MOE)}


def _tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """The end of a text, which config.json has under another name; and the end of a turn."""
    pairs = dict(pairs)
    if not (config.folder / "tokenizer.json").is_file() and config.find("hidden_size") == _HIDDEN_7B:
        pairs["tokenizer.ggml.bos_token_id"] = u32(_BOS_7B)
    if (end := config.count("eod_token_id")) is not None:
        pairs["tokenizer.ggml.eos_token_id"] = u32(end)
    settings = config.folder / "generation_config.json"
    ends = read_json_object(settings).get("eos_token_id") if settings.is_file() else None
    if isinstance(ends, list) and len(ends) >= 2 and isinstance(ends[0], int):
        pairs["tokenizer.ggml.eot_token_id"] = u32(ends[0])
    return pairs


_DENSE = Layout(required=attention() | DENSE | QK_NORMS, optional=HEAD | biases())

HUNYUAN_DENSE = Architecture(
    name="hunyuan-dense",
    vocabulary=Vocabulary(kinds=("bpe", "tiktoken"), pre=("hunyuan-dense", "hunyuan")),
    classes=("HunYuanDenseV1ForCausalLM",),
    layout=_DENSE,
    derive={"eod_token_id": lambda _: _END_OF_TEXT, "num_key_value_heads": as_many_as_heads},
    adjust=_without_experts,
    leaves_out=tied_output,
    refuse=_unknown_alpha,
    pairs=_dense_pairs,
    tokenizer=_tokenizer,
)


def _sections(config: Config) -> list[int] | None:
    """How many pairs of a head are rotated by each axis; None for models that don't rotate by sections."""
    for name in ("xdrope_section", "mrope_section"):
        sections = config.rope.get(name)
        if isinstance(sections, list) and all(type(it) is int for it in sections):
            return sections
    return None


def _vl_pairs(config: Config) -> Pairs:
    arch, sections = "hunyuan_vl", _sections(config)
    kind = config.rope.get("rope_type")
    if kind not in ("xdrope", "dynamic") or sections is None:
        return {}
    context = u32(config.need("max_position_embeddings"))
    return {
        f"{arch}.rope.freq_base": f32(_setting(config, "rope_theta", _THETA)),
        f"{arch}.rope.scaling.type": text("none"),
        f"{arch}.rope.scaling.factor": f32(_setting(config, "factor", 1.0)),
        f"{arch}.rope.scaling.alpha": f32(_setting(config, "alpha", _ALPHA_DENSE)),
        f"{arch}.rope.scaling.original_context_length": context,
        f"{arch}.context_length": context,
        f"{arch}.rope.dimension_sections": i32s(sections),
    }


HUNYUAN_VL = replace(
    HUNYUAN_DENSE,
    name="hunyuan_vl",
    classes=("HunYuanVLForConditionalGeneration",),
    pairs=_vl_pairs,
)


def _same_for_all(config: Config, name: str) -> int:
    """A number that stands once, or for each layer. ModelError where layers differ: a GGUF has one for all."""
    numbers = set(config.counts(config.need(*LAYERS), name))
    if len(numbers) != 1:
        config.fail(
            f"says {name}: {sorted(numbers)} (llama.cpp has one for all layers)", "convert another model"
        )
    return numbers.pop()


def _moe_pairs(config: Config) -> Pairs:
    arch = "hunyuan-moe"
    pairs: Pairs = {
        f"{arch}.expert_shared_feed_forward_length": u32(config.need("intermediate_size")),
        f"{arch}.expert_feed_forward_length": u32(_same_for_all(config, "moe_intermediate_size")),
        f"{arch}.expert_used_count": u32(_same_for_all(config, "moe_topk")),
        f"{arch}.expert_shared_count": u32(_same_for_all(config, "num_shared_expert")),
    }
    if config.rope.get("rope_type") == "dynamic":
        length = config.need("hidden_size") // config.need("num_attention_heads")
        pairs |= _stretched(arch, config, _setting(config, "alpha", _ALPHA_MOE), length)
        pairs |= _long_context(arch, config)
    return pairs


_SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": ("intermediate_size", "hidden_size"),
        "ffn_up_shexp.weight": ("intermediate_size", "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", "intermediate_size"),
    }
)

HUNYUAN_MOE = Architecture(
    name="hunyuan-moe",
    vocabulary=Vocabulary(kinds=("tiktoken", "bpe"), pre=("hunyuan",)),
    tokenizer=_moe_tokenizer,
    classes=("HunYuanMoEV1ForCausalLM",),
    layout=Layout(
        required=attention() | EXPERTS | _SHARED | QK_NORMS,
        optional=HEAD | biases(),
    ),
    common=lambda arch, config: common_pairs(arch, config, used=False),
    leaves_out=tied_output,
    refuse=_unknown_alpha,
    pairs=_moe_pairs,
    rules=EXPERTS_RULES,
    lengths={"moe_intermediate_size": lambda config, _: config.need("intermediate_size")},
)


def _hy3_dense(config: Config) -> int:
    """How many layers come before those with experts."""
    kinds = config.per_layer(config.need(*LAYERS), "mlp_layer_types")
    if kinds is None:
        return config.count("first_k_dense_replace") or 0
    return next((layer for layer, kind in enumerate(kinds) if kind != "dense"), len(kinds))


def _shared_count(config: Config) -> int:
    count = config.count(*SHARED_EXPERTS)
    return 1 if count is None else count


def _hy3_pairs(config: Config) -> Pairs:
    arch, length = "hy_v3", config.need("moe_intermediate_size")
    scale, norm = config.number("router_scaling_factor"), config.flag("route_norm")
    pairs: Pairs = {
        f"{arch}.expert_feed_forward_length": u32(length),
        f"{arch}.expert_shared_feed_forward_length": u32(length * _shared_count(config)),
        f"{arch}.expert_weights_norm": boolean(norm is not False),
        f"{arch}.expert_weights_scale": f32(1.0 if scale is None else scale),
        f"{arch}.expert_gating_func": u32(_SIGMOID),
    }
    return pairs | (draft_pairs(arch, config) if draft_count(config) else {})


_HY3_SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": ("shared", "hidden_size"),
        "ffn_up_shexp.weight": ("shared", "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", "shared"),
        "exp_probs_b": ("num_experts",),
    }
)

HY3 = Architecture(
    name="hy_v3",
    vocabulary=Vocabulary(kinds=("bpe",), pre=("hy_v4",)),
    classes=("HYV3ForCausalLM",),
    layout=Layout(
        required=attention() | QK_NORMS,
        optional=HEAD | biases(),
        parts=(
            *dense_then_experts({}, required=EXPERTS | _HY3_SHARED, count=with_drafts, dense=_hy3_dense),
            DRAFT,
        ),
        drafts=drafts,
    ),
    layers=with_drafts,
    pairs=_hy3_pairs,
    rules=EXPERTS_RULES,
    names_of="qwen3moe",  # whose layers have the same tensors but for these
    names={
        **DRAFT_NAMES,
        "model.layers.{layer}.final_layernorm": "blk.{layer}.nextn.shared_head_norm",
        "model.layers.{layer}.mlp.expert_bias": "blk.{layer}.exp_probs_b",
        "model.layers.{layer}.mlp.router.gate": "blk.{layer}.ffn_gate_inp",
        "model.layers.{layer}.mlp.shared_mlp.gate_proj": "blk.{layer}.ffn_gate_shexp",
        "model.layers.{layer}.mlp.shared_mlp.up_proj": "blk.{layer}.ffn_up_shexp",
        "model.layers.{layer}.mlp.shared_mlp.down_proj": "blk.{layer}.ffn_down_shexp",
        "model.layers.{layer}.mlp.gate_proj": "blk.{layer}.ffn_gate",
        "model.layers.{layer}.mlp.up_proj": "blk.{layer}.ffn_up",
        "model.layers.{layer}.mlp.down_proj": "blk.{layer}.ffn_down",
    },
    lengths={"shared": lambda config, _: config.need("moe_intermediate_size") * _shared_count(config)},
)


ALL = (HUNYUAN_DENSE, HUNYUAN_VL, HUNYUAN_MOE, HY3)
