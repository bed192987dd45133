"""IBM's Granite: Llama's layers and four multipliers, dense or with experts, and with a sliding window.

    granite       Granite 3 and the dense ones of Granite 4
    granitemoe    experts, with or without one that every token is sent to
    granite_swa   a sliding window in most layers, and attention sinks

Gate and up are stored as one matrix, "input_linear"; llama.cpp has them apart but in granite_swa's experts.
Hybrids with state spaces are in `granite_hybrid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import LLAMA, ROTARY
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    LAYERS,
    count_pairs,
    number_pairs,
    rope_dimensions,
    sliding_pattern,
)
from quantrecipe.model.architectures.layout import (
    DENSE,
    DENSE_BIASES,
    HEAD,
    WIDE_EXPERTS,
    Layout,
    Part,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import Each, Found, Named, Rule, halves, language_name, rename
from quantrecipe.model.pairs import Pairs, booleans, u32

__all__ = [
    "ALL",
    "GRANITE",
    "GRANITE_MOE",
    "SHARED_EXPERT",
    "SPLIT",
    "feed_forward",
    "granite_pairs",
    "granite_values",
    "has_experts",
    "moe_pairs",
    "shared_length",
]

_HIDDEN, _SHARED = "hidden_size", "shared_intermediate_size"

_MULTIPLIERS = {
    "attention.scale": ("attention_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling",),
}
"""What llama.cpp calls them; a multiplier of 0 is none."""

_OPTIONAL: Shapes = {
    **HEAD,
    **biases(),
    **layers({"attn_output.bias": (_HIDDEN,)}),
    "rope_freqs.weight": ("head_dim / 2",),
}
SHARED_EXPERT: Shapes = layers(
    {
        "ffn_gate_shexp.weight": (_SHARED, _HIDDEN),
        "ffn_up_shexp.weight": (_SHARED, _HIDDEN),
        "ffn_down_shexp.weight": (_HIDDEN, _SHARED),
    }
)


def granite_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without head_dim: llama.cpp's Granite divides the hidden size among the heads."""
    return {name: value for name, value in values.items() if name != "head_dim"}


def granite_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys that all of Granite's GGUFs have beyond the common ones."""
    given = {key: names for key, names in _MULTIPLIERS.items() if config.number(*names)}
    return rope_dimensions(arch, config) | number_pairs(arch, config, given)


def has_experts(config: Config) -> bool:
    """Whether a model of a class that may have experts has any."""
    return bool(config.count(*EXPERTS))


def shared_length(arch: str, config: Config) -> Pairs:
    """Make the key for the length of the expert that every token is sent to."""
    if not config.count(_SHARED):
        return {}
    return count_pairs(arch, config, {"expert_shared_feed_forward_length": (_SHARED,)})


def _split_experts(it: Found) -> list[Named]:
    gate, up = halves(it.source)
    stem = f"blk.{it.layer}"
    return [(f"{stem}.ffn_gate_exps.weight", gate), (f"{stem}.ffn_up_exps.weight", up)]


def _split_shared(it: Found) -> list[Named]:
    """The shared network: beside experts it is one of them, and without it is all that there is."""
    gate, up = halves(it.source)
    stem, end = f"blk.{it.layer}", "_shexp.weight" if has_experts(it.config) else ".weight"
    return [(f"{stem}.ffn_gate{end}", gate), (f"{stem}.ffn_up{end}", up)]


def _shared_output(it: Found) -> list[Named]:
    end = "_shexp.weight" if has_experts(it.config) else ".weight"
    return [(f"blk.{it.layer}.ffn_down{end}", it.source)]


_LAYER = "model.layers.{layer}."
SPLIT: tuple[Rule, ...] = (
    Each(names=_LAYER + "block_sparse_moe.input_linear.weight", make=_split_experts),
    Each(names=_LAYER + "shared_mlp.input_linear.weight", make=_split_shared),
    Each(names=_LAYER + "shared_mlp.output_linear.weight", make=_shared_output),
)
"""Gate and up in one matrix, and what becomes of the shared network."""

_MULTIMODAL = ("image_", "layerwise_projectors", "spatial_projectors")


def _name(name: str) -> str | None:
    """The language model's name of a tensor; None for those of Granite's encoders for pictures and speech."""
    if name.startswith("encoder.") or any(part in name for part in _MULTIMODAL):
        return None
    return language_name(name)


def _refuse(config: Config) -> str | None:
    if config.find("spatial_target_layers") or config.find("deepstack_layer_map"):
        return "feeds pictures into several layers, which quantrecipe doesn't convert"
    return None


GRANITE = replace(
    LLAMA,
    name="granite",
    classes=("GraniteForCausalLM",),
    layout=Layout(required=attention() | DENSE, optional=_OPTIONAL | DENSE_BIASES),
    refuse=_refuse,
    defaults={},
    derive={},
    adjust=granite_values,
    pairs=lambda config: granite_pairs("granite", config),
    rename=_name,
    vocabulary=replace(LLAMA.vocabulary, pre=("refact", "dbrx")),
)


def _all_layers(config: Config) -> range:
    return range(config.need(*LAYERS))


def _if(condition: bool, config: Config) -> range:
    return _all_layers(config) if condition else range(0)


def feed_forward(experts: Shapes, shared: Shapes) -> tuple[Part, ...]:
    """Experts, with a shared one where config.json has a length for it; dense networks where there are none."""
    return (
        Part(where=lambda config: _if(has_experts(config), config), required=experts),
        Part(
            where=lambda config: _if(has_experts(config) and bool(config.count(_SHARED)), config),
            required=shared,
        ),
        Part(
            where=lambda config: _if(not has_experts(config), config),
            required=DENSE,
            optional=DENSE_BIASES,
        ),
    )


def moe_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of those with experts, or of a class that may have them."""
    return granite_pairs(arch, config) | shared_length(arch, config)


GRANITE_MOE = replace(
    GRANITE,
    name="granitemoe",
    classes=("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
    layout=Layout(required=attention(), optional=_OPTIONAL, parts=feed_forward(WIDE_EXPERTS, SHARED_EXPERT)),
    rules=(*ROTARY, *SPLIT),
    pairs=lambda config: moe_pairs("granitemoe", config),
    # the map of granitemoe has no dense networks
    names_of="granitehybrid",
)


def _swa_pairs(config: Config) -> Pairs:
    pairs = granite_pairs("granite_swa", config)
    pairs["granite_swa.attention.sliding_window"] = u32(config.count("sliding_window") or 128)
    pairs |= sliding_pattern("granite_swa", config)
    if rotated := config.per_layer(config.need(*LAYERS), "no_rope_layers"):
        pairs["granite_swa.attention.rope_pattern"] = booleans([bool(it) for it in rotated])
    return pairs


GRANITE_SWA = replace(
    GRANITE,
    name="granite_swa",
    classes=("GraniteSWAForCausalLM",),
    layout=Layout(
        required=attention() | DENSE | layers({"attn_sinks.weight": ("num_attention_heads",)}),
        optional=_OPTIONAL | DENSE_BIASES,
    ),
    pairs=_swa_pairs,
    rules=(*ROTARY, rename(_LAYER + "self_attn.sinks", _LAYER + "self_attn.sinks.weight")),
    names={_LAYER + "self_attn.sinks": "blk.{layer}.attn_sinks"},
    names_of="granite",
)

_FUSED: Shapes = layers(
    {
        "ffn_gate_inp.weight": ("num_experts", _HIDDEN),
        "ffn_gate_up_exps.weight": ("num_experts", "2 · intermediate_size", _HIDDEN),
        "ffn_down_exps.weight": ("num_experts", _HIDDEN, "intermediate_size"),
    }
)
_FUSED_SHARED: Shapes = layers(
    {
        "ffn_up_shexp.weight": (f"2 · {_SHARED}", _HIDDEN),
        "ffn_down_shexp.weight": (_HIDDEN, _SHARED),
    }
)

GRANITE_MOE_SWA = replace(
    GRANITE_SWA,
    classes=("GraniteMoeSWAForCausalLM",),
    layout=Layout(
        required=attention() | layers({"attn_sinks.weight": ("num_attention_heads",)}),
        optional=_OPTIONAL,
        parts=feed_forward(_FUSED, _FUSED_SHARED),
    ),
    pairs=lambda config: _swa_pairs(config) | shared_length("granite_swa", config),
    rules=(
        *GRANITE_SWA.rules,
        rename(_LAYER + "block_sparse_moe.experts.gate_up_proj", "blk.{layer}.ffn_gate_up_exps.weight"),
        rename(_LAYER + "block_sparse_moe.experts.down_proj", "blk.{layer}.ffn_down_exps.weight"),
        rename(_LAYER + "block_sparse_moe.input_linear.weight", "blk.{layer}.ffn_gate_up_exps.weight"),
        rename(_LAYER + "shared_mlp.input_linear.weight", "blk.{layer}.ffn_up_shexp.weight"),
        rename(_LAYER + "shared_mlp.output_linear.weight", "blk.{layer}.ffn_down_shexp.weight"),
    ),
    names={
        **GRANITE_SWA.names,
        _LAYER + "block_sparse_moe.router": "blk.{layer}.ffn_gate_inp",
        _LAYER + "block_sparse_moe.experts.gate_up_proj": "blk.{layer}.ffn_gate_up_exps",
    },
    names_of="granitehybrid",
)

ALL = (GRANITE, GRANITE_MOE, GRANITE_SWA, GRANITE_MOE_SWA)
