"""Qwen3-Next and Qwen3.5: three of four layers have linear attention (a gated delta net) in the place of attention.

    qwen3next  q, k, v and the gate z in one matrix, head by head; b and a in another
    qwen35moe  q, k and v in one matrix, and z, b and a each in their own; experts
    qwen35     the same, dense

The norms are stored without their 1, but for the one of linear attention. Draft heads ("mtp") become layers behind
the others; a checkpoint without them makes a GGUF without them, whatever config.json says: llama.cpp would not load it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.qwen import EXPERTS_RULES, SHARED_EXPERT, expert_lengths
from quantrecipe.model.architectures.hyperparameters import LAYERS, count_pairs, head_dim
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    HEAD,
    KV,
    QK_NORMS,
    Layout,
    Part,
    Q,
    Shapes,
    biases,
    layers,
)
from quantrecipe.model.architectures.rope import rotated
from quantrecipe.model.architectures.rules import (
    Rule,
    change,
    language_name,
    plus_one,
)
from quantrecipe.model.architectures.shared.delta_net import (
    BETA_ALPHA,
    BETA_AND_ALPHA,
    FUSED_RULES,
    LINEAR,
    NET,
    TILED_RULES,
)
from quantrecipe.model.architectures.shared.experts import DRAFT, DRAFT_NAMES, mtp_name
from quantrecipe.model.pairs import Pairs, booleans, i32s, u32

__all__ = ["ALL", "QWEN3NEXT", "QWEN35", "QWEN35MOE"]

_INTERVAL = 4
"""Each fourth layer has attention, where config.json says nothing. Source: llama.cpp, qwen3next.cpp"""

_PART_TURNED = 0.25
"""The part of a head that is rotated, where config.json says nothing. Source: Qwen3NextConfig"""

_SECTIONS = [11, 11, 10, 0]
"""Rotary pairs for time, height and width, where config.json says nothing. Source: Qwen3_5TextConfig"""

_JOINTS = {
    "mtp.fc": "eh_proj",
    "mtp.pre_fc_norm_embedding": "enorm",
    "mtp.pre_fc_norm_hidden": "hnorm",
    "mtp.norm": "shared_head.norm",
}

_HEADS = re.compile(r"(?:model\.|language_model\.)*mtp\.layers\.(?P<layer>\d{1,9})\..+")
"""Names of a draft head's tensors, as they are stored."""


def _name(stored: str) -> str | None:
    name = language_name(stored)
    return name.removeprefix("model.") if name is not None and name.startswith("model.mtp.") else name


def _draft_count(config: Config) -> int:
    """How many draft heads are stored, if config.json doesn't say: none. That of Qwen3-Next says nothing."""
    given = config.count("mtp_num_hidden_layers")
    if given == 0:
        return 0
    stored = config.stored_layers(_HEADS)
    return (given or stored) if stored else 0


def _without_place(config: Config, name: str) -> bool:
    return name.startswith("mtp.") and not _draft_count(config)


def _all_layers(config: Config) -> int:
    return config.need(*LAYERS) + _draft_count(config)


def _drafts(config: Config) -> range:
    return range(config.need(*LAYERS), _all_layers(config))


def _draft_name(config: Config, name: str) -> str:
    if not name.startswith("mtp.") or not _draft_count(config):
        return name
    stem, dot, suffix = name.rpartition(".")
    if stem in _JOINTS:  # these are there once
        return f"model.layers.{config.need(*LAYERS)}.{_JOINTS[stem]}{dot}{suffix}"
    return mtp_name(config, name)


def _recurrent(config: Config) -> list[bool]:
    """Which layers have linear attention; draft heads haven't."""
    count = config.need(*LAYERS)
    kinds = config.per_layer(count, "layer_types")
    if kinds is None:
        interval = config.count("full_attention_interval") or _INTERVAL
        found = [(layer + 1) % interval != 0 for layer in range(count)]
    else:
        found = [kind == "linear_attention" for kind in kinds]
    return found + [False] * _draft_count(config)


def _layers_with(linear: bool) -> Callable[[Config], list[int]]:
    return lambda config: [layer for layer, it in enumerate(_recurrent(config)) if it is linear]


def _pairs(arch: str, config: Config) -> Pairs:
    sizes = {
        "ssm.conv_kernel": ("linear_conv_kernel_dim",),
        "ssm.state_size": ("linear_key_head_dim",),
        "ssm.group_count": ("linear_num_key_heads",),
        "ssm.time_step_rank": ("linear_num_value_heads",),
    }
    for (name,) in sizes.values():
        config.need(name)
    inner = config.need("linear_value_head_dim") * config.need("linear_num_value_heads")
    turning = rotated(config, head_dim(config), _PART_TURNED)
    pairs = expert_lengths(arch, config)
    if drafts := _draft_count(config):
        pairs[f"{arch}.nextn_predict_layers"] = u32(drafts)
    return (
        pairs
        | count_pairs(arch, config, sizes)
        | {
            f"{arch}.ssm.inner_size": u32(inner),
            f"{arch}.attention.recurrent_layers": booleans(_recurrent(config)),
            f"{arch}.full_attention_interval": u32(config.count("full_attention_interval") or _INTERVAL),
            f"{arch}.rope.dimension_count": u32(turning),
        }
    )


def _qwen35_pairs(arch: str) -> Callable[[Config], Pairs]:
    def pairs(config: Config) -> Pairs:
        found = _pairs(arch, config)
        if "mrope_section" not in config.rope:
            found[f"{arch}.rope.dimension_sections"] = i32s(_SECTIONS)
        return found

    return pairs


_HIDDEN = "hidden_size"

_FRAME: Shapes = {"token_embd.weight": ("vocab_size", _HIDDEN), "output_norm.weight": (_HIDDEN,)} | layers(
    {"attn_norm.weight": (_HIDDEN,), "post_attention_norm.weight": (_HIDDEN,)}
)
_ATTENTION = Part(
    where=_layers_with(False),
    required=QK_NORMS
    | layers(
        {
            "attn_q.weight": (f"2 · {Q}", _HIDDEN),  # with the gate of what comes out
            "attn_k.weight": (KV, _HIDDEN),
            "attn_v.weight": (KV, _HIDDEN),
            "attn_output.weight": (_HIDDEN, Q),
        }
    ),
    optional=biases(f"2 · {Q}"),
)


def _layout(feed_forward: Shapes, linear: Shapes) -> Layout:
    return Layout(
        required=_FRAME | feed_forward,
        optional=HEAD,
        parts=(
            _ATTENTION,
            Part(where=_layers_with(True), required=LINEAR | linear),
            replace(DRAFT, where=_drafts),
        ),
        drafts=_drafts,
    )


_NORMS: tuple[Rule, ...] = (
    change(NET + "norm.weight", lambda it: it.source),
    change("{name:*}norm.weight", plus_one),
)

QWEN3NEXT = Architecture(
    name="qwen3next",
    classes=("Qwen3NextForCausalLM",),
    layout=_layout(EXPERTS | SHARED_EXPERT, BETA_ALPHA),
    layers=_all_layers,
    pairs=lambda config: _pairs("qwen3next", config),
    rename=_name,
    draft_name=_draft_name,
    leaves_out=_without_place,
    rules=(*FUSED_RULES, *_NORMS, *EXPERTS_RULES),
    names=DRAFT_NAMES,
)


QWEN35MOE = Architecture(
    name="qwen35moe",
    classes=("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    layout=_layout(EXPERTS | SHARED_EXPERT, BETA_AND_ALPHA),
    layers=_all_layers,
    pairs=_qwen35_pairs("qwen35moe"),
    rename=_name,
    draft_name=_draft_name,
    leaves_out=_without_place,
    rules=(*TILED_RULES, *_NORMS, *EXPERTS_RULES),
    names=DRAFT_NAMES,
)

QWEN35 = replace(
    QWEN35MOE,
    name="qwen35",
    classes=("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"),
    layout=_layout(DENSE, BETA_AND_ALPHA),
    pairs=_qwen35_pairs("qwen35"),
)


def _minicpm_name(stored: str) -> str | None:
    name = _name(stored)
    return None if name is None or name.startswith("model.merger.") else name


def _without_drafts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**values, "mtp_num_hidden_layers": 0}


MINICPM_V = replace(
    QWEN35,
    classes=("MiniCPMV4_6ForConditionalGeneration",),
    adjust=_without_drafts,
    rename=_minicpm_name,
)
"""MiniCPM-V 4.6, whose language model is a Qwen3.5; the converter leaves its draft heads out."""

ALL = (QWEN3NEXT, QWEN35MOE, QWEN35, MINICPM_V)
