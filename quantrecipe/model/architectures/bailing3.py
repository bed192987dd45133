"""Ling 3, from inclusionAI: linear attention (KDA) in most layers, latent attention with a gate in the others.

    layer_group_size    the last layer of each group has latent attention; so have those after the last whole group
    f_proj, g_proj      what KDA forgets, and its gate; in latent attention, g_proj is a gate of one number a head
    A_log               → exp(A_log), one number for each head

Ling 3 VL sees pictures; its language model rotates by sections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import (
    BIAS,
    DRAFT_NAMES,
    dense_count,
    dense_then_experts,
    draft_count,
    draft_pairs,
    draft_part,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.hyperparameters import LAYERS, SHARED_EXPERTS
from quantrecipe.model.architectures.kimi_linear import KDA, convolution
from quantrecipe.model.architectures.latent_attention import (
    LATENT,
    NAMES,
    latent_pairs,
    one_key_value_head,
    queries,
    split,
)
from quantrecipe.model.architectures.layout import EXPERTS, HEAD, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.qwen import EXPERTS_RULES
from quantrecipe.model.architectures.rules import Each, Found, Named, change, language_name, rename
from quantrecipe.model.pairs import Pairs, boolean, f32, f32s, i32s, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import NegExp, Scale
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "BAILINGMOE3", "BAILINGMOE3_VL"]

_SHARED_LENGTH = "moe_shared_expert_intermediate_size"
_LIMITS = {"exp": "expert_swiglu_limit_list", "shexp": "share_expert_swiglu_limit_list"}


def _is_latent(config: Config, layer: int) -> bool:
    count, group = config.need(*LAYERS), config.need("layer_group_size")
    return layer >= count or (layer + 1) % group == 0 or layer >= count // group * group


def _latent(config: Config) -> Iterable[int]:
    return [layer for layer in range(with_drafts(config)) if _is_latent(config, layer)]


def _linear(config: Config) -> Iterable[int]:
    return [layer for layer in range(with_drafts(config)) if not _is_latent(config, layer)]


def _limits(config: Config, name: str) -> list[float] | None:
    """Bounds of what the experts of each layer put out; 0 for none, and for draft heads that the list lacks."""
    values, count = config.find(name), with_drafts(config)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(it, int | float | None) for it in values):
        config.fail(f"has other things than numbers in {name}")
    limits = [0.0 if it is None else float(it) for it in values[:count]]
    return limits + [0.0] * (count - len(limits))


def _pairs(config: Config) -> Pairs:
    arch, count = "bailingmoe3", with_drafts(config)
    lengths, shared = latent_pairs(arch, config), config.count(*SHARED_EXPERTS)
    del lengths[f"{arch}.attention.value_length"]  # this one is the linear attention's
    first = {
        key: lengths.pop(key)
        for key in (f"{arch}.attention.q_lora_rank", f"{arch}.attention.kv_lora_rank")
        if key in lengths
    }
    pairs: Pairs = {
        f"{arch}.attention.head_count_kv": i32s([int(_is_latent(config, i)) for i in range(count)]),
        f"{arch}.vocab_size": u32(config.need("vocab_size")),
        f"{arch}.ssm.conv_kernel": u32(config.need("short_conv_kernel_size")),
        f"{arch}.kda.head_dim": u32(config.need("head_dim")),
        f"{arch}.kda.safe_gate": boolean(True),
        f"{arch}.kda.gate_lower_bound": f32(config.number("kda_lower_bound") or 0.0),
        **first,
        f"{arch}.rope.dimension_count": u32(config.need("qk_rope_head_dim")),
        **lengths,
        f"{arch}.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        f"{arch}.expert_shared_feed_forward_length": u32(config.need(_SHARED_LENGTH)),
        f"{arch}.expert_shared_count": u32(1 if shared is None else shared),
        f"{arch}.leading_dense_block_count": u32(dense_count(config)),
        f"{arch}.expert_weights_scale": f32(config.number("routed_scaling_factor") or 1.0),
        f"{arch}.expert_weights_norm": boolean(config.flag("norm_topk_prob") is True),
    }
    for key, name in _LIMITS.items():
        if (limits := _limits(config, name)) is not None:
            pairs[f"{arch}.swiglu_clamp_{key}"] = f32s(limits)
    return pairs | (draft_pairs(arch, config) if draft_count(config) else {})


def _refuse(config: Config) -> str | None:
    """Why a model can't be converted: kinds of gates that llama.cpp has no code for."""
    if not config.flag("no_kda_lora"):
        return "has gates of low rank in its linear attention, which llama.cpp doesn't have for this architecture"
    if not config.flag("kda_safe_gate"):
        return "has gates without a bound in its linear attention, which llama.cpp doesn't have"
    if config.find("gated_attention_proj_granularity_type") != "head_wise":
        return "doesn't have one gate for each head, which llama.cpp wants"
    return None


def _rename(name: str) -> str | None:
    found = language_name(name)
    if found is None or name.startswith("linear_proj"):
        return None
    return f"{found}.bias" if found.endswith(".expert_bias") else found


def _gate(it: Found) -> list[Named]:
    name = "attn_gate" if _is_latent(it.config, it.layer) else "ssm_g_a"
    return [(f"blk.{it.layer}.{name}.weight", it.source)]


def _remembering(it: Found) -> TensorSource:
    """exp(A_log), one row for each head."""
    column = layout.reshape(NegExp(source=it.source), (it.config.need("num_attention_heads"), 1))
    return Scale(source=column, runs=((column.rows, -1.0),))


_STEM = "model.layers.{layer}.attention"
_KDA: Shapes = {
    name: shape for name, shape in KDA.items() if not name.endswith(("ssm_f_b.weight", "ssm_g_b.weight"))
} | layers({f"ssm_{name}_a.weight": ("kda_width", "hidden_size") for name in "fg"})
_SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_up_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", _SHARED_LENGTH),
    }
)

BAILINGMOE3 = Architecture(
    name="bailingmoe3",
    classes=("BailingMoeV3ForCausalLM",),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("bailingmoe2",)),
    layout=Layout(
        required={
            "token_embd.weight": ("vocab_size", "hidden_size"),
            "output_norm.weight": ("hidden_size",),
            **layers({"attn_norm.weight": ("hidden_size",), "ffn_norm.weight": ("hidden_size",)}),
        },
        optional=HEAD,
        parts=(
            Part(where=_linear, required=_KDA),
            Part(
                where=_latent,
                required=LATENT | layers({"attn_gate.weight": ("num_attention_heads", "hidden_size")}),
            ),
            *queries(_latent),
            *dense_then_experts({}, required=EXPERTS | BIAS | _SHARED, count=with_drafts),
            draft_part(drafts, layers({"layer_output_norm.weight": ("hidden_size",)})),
        ),
        drafts=drafts,
    ),
    refuse=_refuse,
    adjust=one_key_value_head,
    layers=with_drafts,
    pairs=_pairs,
    rename=_rename,
    rules=(
        Each(names=_STEM + ".kv_b_proj.weight", make=split),
        change(_STEM + ".{proj:q|k|v}_conv1d.weight", convolution),
        change(_STEM + ".A_log", _remembering),
        rename(_STEM + ".dt_bias", "model.layers.{layer}.self_attn.dt_proj.bias"),
        Each(names=_STEM + ".g_proj.weight", make=_gate),
        *EXPERTS_RULES,
    ),
    names_of="kimi-linear",  # whose layers have the same tensors under other names
    names={
        **DRAFT_NAMES,
        **{stored.replace("self_attn", "attention"): name for stored, name in NAMES.items()},
        "model.layers.{layer}.final_layernorm": "blk.{layer}.layer_output_norm",
        "model.word_embeddings": "token_embd",
        **{
            f"{_STEM}.{stored}": f"blk.{{layer}}.{name}"
            for stored, name in {
                **{f"{it}_proj": f"attn_{it}" for it in "qkv"},
                **{f"{it}_conv1d": f"ssm_conv1d_{it}" for it in "qkv"},
                "A_log": "ssm_a",
                "b_proj": "ssm_beta",
                "f_proj": "ssm_f_a",
                "o_norm": "ssm_norm",
                "dense": "attn_output",
                "o_proj": "attn_output",
            }.items()
        },
        "blk.{layer}.attn_gate.weight": "blk.{layer}.attn_gate.weight",  # which the rule for g_proj makes
    },
    lengths={
        "kda_head_dim": lambda config, _: config.need("head_dim"),
        "kda_width": lambda config, _: config.need("num_attention_heads") * config.need("head_dim"),
        "taps": lambda config, _: config.need("short_conv_kernel_size"),
    },
)


def _vl_pairs(config: Config) -> Pairs:
    sections, rotated = config.find("mrope_section"), config.need("qk_rope_head_dim")
    if not isinstance(sections, list) or not all(type(it) is int for it in sections):
        config.fail("has no mrope_section (expected: a list of whole numbers)")
    if sum(sections[:3]) * 2 != rotated:
        config.fail(f"says mrope_section: {sections}, which don't make up the {rotated} that are rotated")
    return _pairs(config) | {"bailingmoe3.rope.dimension_sections": i32s([*sections[:3], 0])}


BAILINGMOE3_VL = replace(BAILINGMOE3, classes=("BailingMoeV3VLForConditionalGeneration",), pairs=_vl_pairs)

ALL = (BAILINGMOE3, BAILINGMOE3_VL)
