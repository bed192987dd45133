"""Nemotron-H: Mamba-2, attention or a feed-forward network, one of them in each layer.

    hybrid_override_pattern    "M-M*-": M for Mamba-2, * for attention, - for a network, E for experts
    layers_block_type          the same in words, in newer files

Those with experts may send them a shorter vector (moe_latent_size), and may have a draft head: a layer of attention
and one of experts in the checkpoint, and one layer behind all others in the GGUF.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.granite import granite_pairs
from quantrecipe.model.architectures.granite_hybrid import hybrid_space
from quantrecipe.model.architectures.hyperparameters import (
    LAYERS,
    Table,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import (
    FRAME,
    HEAD,
    NO_GATE,
    NO_GATE_BIASES,
    Layout,
    Part,
    Shapes,
    biases,
    layers,
    self_attention,
)
from quantrecipe.model.architectures.mamba import NO_CONTEXT, padded_vocabulary
from quantrecipe.model.architectures.rules import Stack, change, in_rope_order, language_name
from quantrecipe.model.architectures.state_space import (
    MAMBA2,
    MAMBA2_CONV_BIAS,
    MAMBA2_NORM,
    StateSpace,
    mamba2_rules,
    space_lengths,
    space_pairs,
)
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL", "NEMOTRON_H_MOE"]

_HIDDEN, _FF = "hidden_size", "intermediate_size"
_MAMBA, _ATTENTION, _MLP, _MOE, _DRAFT = "mamba", "attention", "mlp", "moe", "draft"
_KINDS = {
    "M": _MAMBA, "*": _ATTENTION, "-": _MLP, "E": _MOE,
    "mamba": _MAMBA, "linear_attention": _MAMBA, "attention": _ATTENTION, "full_attention": _ATTENTION,
    "mlp": _MLP, "moe": _MOE,
}  # fmt: skip
_OF_EXPERTS = (
    "n_routed_experts", "num_local_experts", "num_experts", "num_experts_per_tok", "n_group", "topk_group",
)  # fmt: skip


def _with_layers(values: Mapping[str, Any], network: str) -> Mapping[str, Any]:
    """Hyper-parameters with what each layer is as "layer_kinds", and sizes layer by layer.

    network: the hyper-parameter for the length of a feed-forward network
    """
    pattern = values.get("hybrid_override_pattern") or values.get("layers_block_type")
    if not isinstance(pattern, str | list):
        return values  # what is missing is told where it is asked for
    kinds = [_KINDS.get(str(it), str(it)) for it in pattern]
    if values.get("num_nextn_predict_layers") == 1 and network != _FF:
        kinds.append(_DRAFT)

    def each(kind: str, number: Any) -> list[Any]:
        return [number if it in (kind, _DRAFT) else 0 for it in kinds]

    return {
        **{name: value for name, value in values.items() if name != "head_dim"},
        "layer_kinds": kinds,
        "num_hidden_layers": len(kinds),
        "num_key_value_heads": each(_ATTENTION, values.get("num_key_value_heads")),
        _FF: each(_MLP if network == _FF else _MOE, values.get(network)),
        # granite's GGUFs have no head_dim, so its keys don't see it under this name
        "attention_head_dim": values.get("head_dim", values.get("attention_head_dim")),
    }


def _dense_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what transformers assumes of experts, for there are none."""
    return _with_layers({name: it for name, it in values.items() if name not in _OF_EXPERTS}, _FF)


def _moe_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return _with_layers(values, "moe_intermediate_size")


def _layers_of(*kinds: str) -> Callable[[Config], list[int]]:
    """The numbers of the layers of these kinds."""

    def where(config: Config) -> list[int]:
        found = config.find("layer_kinds")
        if not isinstance(found, list):
            config.fail(
                "has no hybrid_override_pattern and no layers_block_type, which say what each layer is"
            )
        if unknown := [it for it in found if it not in (*_KINDS.values(), _DRAFT)]:
            config.fail(
                f"has layers of the kind {shown(unknown[0])} (llama.cpp has: mamba, attention, mlp, moe)"
            )
        return [layer for layer, kind in enumerate(found) if kind in kinds]

    return where


def _space(config: Config) -> StateSpace:
    """Unlike Granite's, whose width times `expand` it is, this one counts its heads."""
    heads = config.need("num_heads", "mamba_num_heads")
    width = config.need("mamba_head_dim", "hidden_size")
    return replace(hybrid_space(config), inner=heads * width)


def _pairs(arch: str, config: Config) -> Pairs:
    head = config.need("attention_head_dim")
    keys = ("conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank")
    return {
        **granite_pairs(arch, config),
        **space_pairs(arch, _space(config), *keys),
        f"{arch}.rope.scaling.finetuned": boolean(False),
        f"{arch}.context_length": u32(NO_CONTEXT),
        f"{arch}.attention.key_length": u32(head),
        f"{arch}.attention.value_length": u32(head),
    }


_COUNTS: Table = {
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("moe_shared_expert_intermediate_size",),
    "expert_count": ("n_routed_experts",),
    "expert_shared_count": ("n_shared_experts",),
}
_LATENT: Table = {"expert_group_count": ("n_group",), "moe_latent_size": ("moe_latent_size",)}


def _moe_pairs(config: Config) -> Pairs:
    arch = "nemotron_h_moe"
    drafts = {"nextn_predict_layers": ("num_nextn_predict_layers",)} if _layers_of(_DRAFT)(config) else {}
    return {
        **_pairs(arch, config),
        **count_pairs(arch, config, _COUNTS),
        f"{arch}.expert_weights_norm": boolean(config.flag("norm_topk_prob") is not False),
        **number_pairs(arch, config, {"expert_weights_scale": ("routed_scaling_factor",)}),
        **count_pairs(arch, config, _LATENT),
        **count_pairs(arch, config, drafts),
    }


def _has_experts(config: Config) -> bool:
    """Whether config.json itself speaks of experts: transformers assumes some for all models of the class."""
    return "num_experts_per_tok" in config.said


def _refuse(config: Config) -> str | None:
    if (heads := config.count("num_nextn_predict_layers") or 0) > 1:
        return f"has {heads} draft heads; llama.cpp has one at most for a Nemotron-H"
    space, head = _space(config), config.count("d_head", "mamba_d_head") or 64
    if space.inner % head:
        return f"has {space.inner} inner channels, which heads of {head} don't divide"
    return None


def _name(name: str) -> str | None:
    """The name that all but the newest have: layers of the "backbone"."""
    if name.startswith("model.layers.") and ".mixer." in name:
        name = "backbone." + name.removeprefix("model.")
    return language_name(name)


_LAYER = "backbone.layers.{layer}."
_RULES = (
    change(_LAYER + "mixer.{proj:q|k}_proj.{end:weight|bias}", in_rope_order),
    *mamba2_rules(_LAYER + "mixer", _space),
)
_ATTENTION_PART = Part(
    where=_layers_of(_ATTENTION),
    required=self_attention(),
    optional=biases() | layers({"attn_output.bias": (_HIDDEN,)}),
)
_MAMBA_PART = Part(where=_layers_of(_MAMBA), required=MAMBA2 | MAMBA2_NORM, optional=MAMBA2_CONV_BIAS)

NEMOTRON_H = Architecture(
    name="nemotron_h",
    classes=("NemotronHForCausalLM",),
    applies=lambda config: not _has_experts(config),
    refuse=_refuse,
    layout=Layout(
        required=FRAME,
        optional=HEAD,
        parts=(
            _MAMBA_PART,
            _ATTENTION_PART,
            Part(where=_layers_of(_MLP), required=NO_GATE, optional=NO_GATE_BIASES),
        ),
    ),
    default_theta=None,
    adjust=_dense_values,
    pairs=lambda config: _pairs("nemotron_h", config),
    rename=_name,
    rules=_RULES,
    lengths={
        "vocab_size": padded_vocabulary(8),
        "head_dim": lambda config, layer: config.need("attention_head_dim"),
        **space_lengths(_space),
    },
    vocabulary=Vocabulary(kinds=("bpe",), pre=("pixtral",)),
)

_SHARED = "moe_shared_expert_intermediate_size"
_EXPERTS: Shapes = layers(
    {
        "ffn_gate_inp.weight": ("num_experts", _HIDDEN),
        "exp_probs_b.bias": ("num_experts",),
        "ffn_up_exps.weight": ("num_experts", _FF, "latent"),
        "ffn_down_exps.weight": ("num_experts", "latent", _FF),
        "ffn_up_shexp.weight": (_SHARED, _HIDDEN),
        "ffn_down_shexp.weight": (_HIDDEN, _SHARED),
    }
)
_TO_LATENT: Shapes = layers(
    {"ffn_latent_down.weight": ("latent", _HIDDEN), "ffn_latent_up.weight": (_HIDDEN, "latent")}
)
_DRAFT_HEAD: Shapes = layers(
    {
        "nextn.enorm.weight": (_HIDDEN,),
        "nextn.hnorm.weight": (_HIDDEN,),
        "nextn.eh_proj.weight": (_HIDDEN, "2 · hidden_size"),
        "nextn.shared_head_norm.weight": (_HIDDEN,),
        "post_attention_norm.weight": (_HIDDEN,),
    }
)
"""What the layer of the draft head has besides attention and experts."""


def _latent_layers(config: Config) -> list[int]:
    return _layers_of(_MOE, _DRAFT)(config) if config.count("moe_latent_size") else []


_HEAD_NAMES = {
    "0.enorm": "enorm",
    "0.hnorm": "hnorm",
    "0.eh_proj": "eh_proj",
    "1.norm": "post_attention_layernorm",
    "1.final_layernorm": "shared_head.norm",
}
_OF_HEAD = re.compile(r"mtp\.layers\.([01]\.(.+))")


def _draft_name(config: Config, name: str) -> str:
    """Both layers of the draft head as the one that llama.cpp has behind all others."""
    if (found := _OF_HEAD.fullmatch(name)) is None:
        return name
    last = config.need(*LAYERS) - 1
    stem = found[1].removesuffix(".weight")
    if stem in _HEAD_NAMES:
        return f"model.layers.{last}.{_HEAD_NAMES[stem]}.weight"
    return f"backbone.layers.{last}.{found[2]}"


NEMOTRON_H_MOE = replace(
    NEMOTRON_H,
    name="nemotron_h_moe",
    applies=_has_experts,
    layout=Layout(
        required=FRAME,
        optional=HEAD,
        parts=(
            _MAMBA_PART,
            replace(_ATTENTION_PART, where=_layers_of(_ATTENTION, _DRAFT)),
            Part(where=_layers_of(_MOE, _DRAFT), required=_EXPERTS),
            Part(where=_latent_layers, required=_TO_LATENT),
            Part(where=_layers_of(_DRAFT), required=_DRAFT_HEAD),
        ),
        drafts=_layers_of(_DRAFT),
    ),
    adjust=_moe_values,
    pairs=_moe_pairs,
    draft_name=_draft_name,
    rules=(
        *_RULES,
        Stack(
            names=_LAYER + "mixer.experts.{expert}.{matrix:down_proj|up_proj}.weight",
            to="model.layers.{layer}.mlp.experts.{matrix}.weight",
        ),
    ),
    names={
        "model.layers.{layer}.enorm": "blk.{layer}.nextn.enorm",
        "model.layers.{layer}.hnorm": "blk.{layer}.nextn.hnorm",
        "model.layers.{layer}.eh_proj": "blk.{layer}.nextn.eh_proj",
        "model.layers.{layer}.shared_head.norm": "blk.{layer}.nextn.shared_head_norm",
        "model.layers.{layer}.post_attention_layernorm": "blk.{layer}.post_attention_norm",
    },
    lengths={
        **NEMOTRON_H.lengths,
        "latent": lambda config, layer: config.count("moe_latent_size") or config.need(_HIDDEN),
    },
)

ALL = (NEMOTRON_H, NEMOTRON_H_MOE)
