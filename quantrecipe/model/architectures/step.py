"""Step 3.5, from StepFun: layers of two kinds with their own numbers of heads; and Step3-VL, which is a Qwen3.

    full_attention       num_attention_heads, num_attention_groups; half of each head is rotated
    sliding_attention    those of attention_other_setting; whole heads are rotated

Norms are stored as what is added to 1. Lists of layers in config.json go on with the layers of the draft heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import (
    BIAS,
    DRAFT,
    DRAFT_NAMES,
    draft_count,
    draft_pairs,
    drafts,
    with_drafts,
)
from quantrecipe.model.architectures.hyperparameters import LAYERS, common_pairs, head_dim
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    QK_NORMS,
    Layout,
    Part,
    Shapes,
    layers,
)
from quantrecipe.model.architectures.qwen import QWEN3
from quantrecipe.model.architectures.rules import Each, Found, Named, change, language_name, plus_one
from quantrecipe.model.pairs import Pairs, boolean, booleans, f32, f32s, i32s, u32
from quantrecipe.model.source import layout

__all__ = ["ALL", "STEP35"]

_FULL, _WINDOW = "full_attention", "sliding_attention"
_EPSILON = 1e-5  # of norms, where config.json doesn't tell it
_ROTATED = {_FULL: 0.5, _WINDOW: 1.0}
"""The parts of heads that llama.cpp rotates in layers of the two kinds."""


def _padded(config: Config, name: str, filler: Any) -> list[Any]:
    """A value for each layer, those of draft heads included; `filler` for those that the list doesn't have."""
    values, count = config.find(name), with_drafts(config)
    given = values if isinstance(values, list) else []
    return [*given, *[filler] * (count - len(given))][:count]


def _kinds(config: Config) -> list[Any]:
    return _padded(config, "layer_types", _FULL)


def _per_kind(name: str) -> Any:
    """A number of heads in a layer, as a length of the Layout."""

    def number(config: Config, layer: int) -> int:
        other = config.find("attention_other_setting")
        if _kinds(config)[layer] == _WINDOW and isinstance(other, dict) and name in other:
            return replace(config, values=other).need(name)
        return config.need(name)

    return number


_heads, _groups = _per_kind("num_attention_heads"), _per_kind("num_attention_groups")


def _with_experts(config: Config) -> list[int]:
    """The layers with experts, of which config.json has the numbers as a text."""
    numbers = config.find("moe_layers_enum")
    if not isinstance(numbers, str) or not numbers.strip():
        return list(range(1, config.need(*LAYERS)))
    try:
        return sorted({int(number) for number in numbers.split(",")})
    except ValueError:
        config.fail(f"says moe_layers_enum: {numbers[:40]!r} (expected: numbers with commas)")


def _dense(config: Config) -> list[int]:
    return sorted(set(range(with_drafts(config))) - set(_with_experts(config)))


def _limits(config: Config, name: str) -> list[float] | None:
    """Bounds of what the experts of each layer put out; 0 for none."""
    if config.find(name) is None:
        return None
    values = [0.0 if it is None else it for it in _padded(config, name, 0.0)]
    if not all(isinstance(it, int | float) for it in values):
        config.fail(f"has other things than numbers in {name}")
    return values


def _adjust(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The two base frequencies, which stand in a list with one for each layer."""
    theta = values.get("rope_theta")
    if not isinstance(theta, list) or len(theta) < 2:
        return values
    return {**values, "rope_theta": theta[0], "local_rope_theta": theta[1]}


def _refuse(config: Config) -> str | None:
    parts = _padded(config, "partial_rotary_factors", _ROTATED[_FULL])
    if parts != [_ROTATED.get(str(kind)) for kind in _kinds(config)]:
        return "rotates other parts of heads than llama.cpp does: half of each with full attention, else whole ones"
    return None


def _pairs(config: Config) -> Pairs:
    arch, kinds = "step35", _kinds(config)
    places = range(len(kinds))
    pairs: Pairs = {
        f"{arch}.attention.head_count": i32s([_heads(config, i) for i in places]),
        f"{arch}.attention.head_count_kv": i32s([_groups(config, i) for i in places]),
        f"{arch}.attention.sliding_window": u32(config.need("sliding_window")),
        f"{arch}.attention.sliding_window_pattern": booleans(kind == _WINDOW for kind in kinds),
        f"{arch}.attention.value_length": u32(head_dim(config)),
        f"{arch}.expert_count": u32(config.need("moe_num_experts")),
        f"{arch}.expert_used_count": u32(config.need("moe_top_k")),
        f"{arch}.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        f"{arch}.expert_shared_feed_forward_length": u32(config.need("share_expert_dim")),
    }
    if (scale := config.number("moe_router_scaling_factor")) is not None:
        pairs[f"{arch}.expert_weights_scale"] = f32(scale)
    if (norm := config.flag("norm_expert_weight")) is not None:
        pairs[f"{arch}.expert_weights_norm"] = boolean(norm)
    told = bool(config.find("moe_layers_enum"))
    pairs[f"{arch}.leading_dense_block_count"] = u32(min(_with_experts(config), default=0) if told else 0)
    every = config.count("moe_every_n_layer")
    pairs[f"{arch}.moe_every_n_layers"] = u32(1 if every is None else every)
    for key, name in (("exp", "swiglu_limits"), ("shexp", "swiglu_limits_shared")):
        if (limits := _limits(config, name)) is not None:
            pairs[f"{arch}.swiglu_clamp_{key}"] = f32s(limits)
    return pairs | (draft_pairs(arch, config) if draft_count(config) else {})


def _computed(config: Config) -> Mapping[str, bytes]:
    """Llama 3's frequency factors of the half that layers with full attention rotate; 1 for all other pairs.

    Frequencies are float32, and what is made of them is computed in float64.
    """
    if str(config.rope.get("rope_type")).lower() != "llama3":
        return {}

    def setting(name: str, default: float) -> float:
        value = config.rope_number(name)
        return default if value is None else value

    base, factor = setting("rope_theta", 10_000.0), setting("factor", 8.0)
    low, high = setting("low_freq_factor", 1.0), setting("high_freq_factor", 4.0)
    context = setting("original_max_position_embeddings", 8192)
    if high == low or min(low, high, base, factor) <= 0:
        config.fail("has rope settings of which no frequencies can be made")
    rotated = int(head_dim(config) * _ROTATED[_FULL])
    exponents = np.arange(0, rotated, 2, dtype=np.float32) / np.float32(rotated)
    powers = np.power(np.float64(base), exponents.astype(np.float64)).astype(np.float32)  # rounded once
    factors = np.ones(head_dim(config) // 2, np.float32)
    for place, frequency in enumerate(np.float32(1) / powers):
        length = 2 * math.pi / float(frequency)
        if length > context / low:
            factors[place] = factor
        elif length >= context / high:
            smooth = (context / length - low) / (high - low)
            factors[place] = 1 / ((1 - smooth) / factor + smooth)
    return {"rope_freqs.weight": factors.astype("<f4").tobytes()}


def _rename(name: str) -> str | None:
    """Names as other families have them: a bias that ends so, and heads of draft layers without a module around."""
    found = language_name(name)
    if found is None:
        return None
    found = found.replace(".transformer.shared_head.", ".shared_head.")
    found = found.replace("shared_head.output", "shared_head.head")
    return f"{found}.bias" if found.endswith(".moe.router_bias") else found


def _without_ones(it: Found) -> list[Named]:
    shape = tuple(length for length in it.source.shape if length != 1)
    return [(it.name, layout.reshape(it.source, shape or (1,)))]


_SHARED_LENGTH = "share_expert_dim"
_SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_up_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", _SHARED_LENGTH),
    }
)
_QUERIES, _KEYS = "heads · head_dim", "groups · head_dim"
_TRUNK: Shapes = {
    "token_embd.weight": ("vocab_size", "hidden_size"),
    "output_norm.weight": ("hidden_size",),
    **HEAD,
    **layers(
        {
            "attn_norm.weight": ("hidden_size",),
            "attn_q.weight": (_QUERIES, "hidden_size"),
            "attn_k.weight": (_KEYS, "hidden_size"),
            "attn_v.weight": (_KEYS, "hidden_size"),
            "attn_output.weight": ("hidden_size", _QUERIES),
            "ffn_norm.weight": ("hidden_size",),
        }
    ),
}

STEP35 = Architecture(
    name="step35",
    classes=("Step3p5ForCausalLM", "Step3p7ForConditionalGeneration"),
    layout=Layout(
        required=_TRUNK,
        optional=QK_NORMS
        | layers({"attn_gate.weight": ("heads", "hidden_size")})
        | {"rope_freqs.weight": ("head_dim / 2",)},
        parts=(
            Part(where=_with_experts, required=EXPERTS | _SHARED, optional=BIAS),
            Part(where=_dense, required=DENSE),
            DRAFT,
        ),
        drafts=drafts,
    ),
    derive={"rms_norm_eps": lambda _: _EPSILON},
    adjust=_adjust,
    layers=with_drafts,
    common=lambda arch, config: common_pairs(arch, config, used=False),
    refuse=_refuse,
    pairs=_pairs,
    computed=_computed,
    rename=_rename,
    rules=(
        change("{stem:*}norm.weight", plus_one),
        Each(names="model.layers.{layer}.self_attn.g_proj.weight", make=_without_ones),
        Each(
            names="model.layers.{layer}.moe.{matrix:gate|gate_proj|up_proj|down_proj}.weight",
            make=_without_ones,
        ),
    ),
    names=DRAFT_NAMES,
    lengths={
        "heads": _heads,
        "groups": _groups,
        "num_experts": lambda config, _: config.need("moe_num_experts"),
    },
)

STEP3_VL = replace(QWEN3, classes=("StepVLForConditionalGeneration",))

ALL = (STEP35, STEP3_VL)
