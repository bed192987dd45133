"""Muse Glimmer: norms on q and k without weights of their own, and a gate behind attention.

    norms of layers                     stored without their 1; the last norm has it
    q, k                                in Hugging Face's order of rotary pairs
    qk_scale_factor in config.json   ▶  attn_q_norm (head_dim), filled with it; attn_k_norm, filled with 1

What reads pictures is left out.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import count_pairs, number_pairs, sliding_pattern
from quantrecipe.model.architectures.layout import (
    DENSE,
    HEAD,
    POST_NORMS,
    QK_NORMS,
    Layout,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import Each, Found, Named, change, in_rope_order, plus_one
from quantrecipe.model.pairs import Pairs
from quantrecipe.model.source.source import Constant
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EOT = "tokenizer.ggml.eot_token_id"


def _with_norms(it: Found) -> list[Named]:
    """q in llama.cpp's order, after norms on q and k that do what transformers does without weights."""
    factor, length = it.config.number("qk_scale_factor"), it.config.need("head_dim")
    if factor is None:
        it.config.fail("has no qk_scale_factor (expected: a number)")
    if length > it.source.rows:
        it.config.fail(f"says head_dim: {length}, but {it.name!r} has only {it.source.rows} rows")
    norms = {f"blk.{it.layer}.attn_q_norm.weight": factor, f"blk.{it.layer}.attn_k_norm.weight": 1.0}
    made: list[Named] = [
        (
            name,
            Constant(shape=(length,), dtype="F32", data=np.full(length, value, "<f4").tobytes(), name=name),
        )
        for name, value in norms.items()
    ]
    return [*made, (it.name, in_rope_order(it))]


def _pairs(config: Config) -> Pairs:
    pairs = number_pairs(
        "muse-glimmer",
        config,
        {"final_logit_softcapping": ("final_logit_softcapping",), "logit_scale": ("output_multiplier",)},
    )
    pairs |= count_pairs("muse-glimmer", config, {"attention.sliding_window": ("sliding_window",)})
    return pairs | sliding_pattern("muse-glimmer", config)


def _eot_last(config: Config, pairs: Pairs) -> Pairs:
    """The end of a turn behind the chat template, where the converter writes it."""
    if (end := pairs.pop(_EOT, None)) is not None:
        pairs[_EOT] = end
    return pairs


MUSE_GLIMMER = Architecture(
    name="muse-glimmer",
    names_of="afmoe",
    classes=("MuseGlimmerForConditionalGeneration",),
    layout=Layout(
        required=attention()
        | HEAD
        | QK_NORMS
        | DENSE
        | POST_NORMS
        | layers({"attn_gate.weight": ("num_attention_heads · head_dim", "hidden_size")}),
        optional=biases(),
    ),
    rules=(
        change("model.layers.{layer}.{norm:*}layernorm.weight", plus_one),
        Each(names="model.layers.{layer}.self_attn.{proj:q}_proj.weight", make=_with_norms),
        change("model.layers.{layer}.self_attn.{proj:q}_proj.bias", in_rope_order),
        change("model.layers.{layer}.self_attn.{proj:k}_proj.{end:weight|bias}", in_rope_order),
    ),
    pairs=_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("llama4",), special_over=(("eot", "<|eot|>"),)),
    tokenizer=_eot_last,
)

ALL = (MUSE_GLIMMER,)
