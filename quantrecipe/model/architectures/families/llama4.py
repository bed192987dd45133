"""Llama 4, Scout and Maverick: every second layer, or each one, has experts and one that every token is sent to.

    …experts.gate_up_proj (experts, hidden, 2 · length)  ▶  ffn_gate_exps, ffn_up_exps (experts, length, hidden)
    …experts.down_proj    (experts, length, hidden)      ▶  ffn_down_exps (experts, hidden, length)

Experts are stored with rows and columns the other way round. q and k keep their order. Pictures are left out.
config.json calls the length of an expert intermediate_size, and that of a dense layer intermediate_size_mlp.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    LAYERS,
    count_pairs,
    head_dim,
    rope_dimensions,
)
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, Part, attention, biases, layers
from quantrecipe.model.architectures.layout import EXPERTS as EXPERT_SHAPES
from quantrecipe.model.architectures.rope import llama3_factors
from quantrecipe.model.architectures.rules import Each, Found, Named, halves
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.source.layout import Transpose
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_STEP = "interleave_moe_layer_step"
_LENGTH = "moe_intermediate_size"


def _adjust(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The lengths by the names that other models have for them."""
    return {
        **values,
        _LENGTH: values.get("intermediate_size"),
        "intermediate_size": values.get("intermediate_size_mlp"),
    }


def _with_experts(config: Config) -> Iterable[int]:
    step = config.need(_STEP)
    return range(step - 1, config.need(*LAYERS), step)


def _dense(config: Config) -> Iterable[int]:
    return set(range(config.need(*LAYERS))) - set(_with_experts(config))


def _gate_and_up(it: Found) -> list[Named]:
    gate, up = halves(Transpose(source=it.source))
    stem = it.name.removesuffix("gate_up_proj")
    return [(f"{stem}gate_proj.weight", gate), (f"{stem}up_proj.weight", up)]


def _down(it: Found) -> list[Named]:
    return [(f"{it.name}.weight", Transpose(source=it.source))]


def _pairs(config: Config) -> Pairs:
    pairs = rope_dimensions("llama4", config)
    pairs |= count_pairs(
        "llama4",
        config,
        {"interleave_moe_layer_step": (_STEP,), "expert_feed_forward_length": (_LENGTH,)},
    )
    kinds = config.per_layer(config.need(*LAYERS), "layer_types")
    if kinds is not None and all(kind == "full_attention" for kind in kinds):
        pairs["llama4.attention.sliding_window"] = u32(0)  # else llama.cpp takes Llama 4's chunks
    return pairs


def _computed(config: Config) -> Mapping[str, bytes]:
    factors = llama3_factors(config, head_dim(config))
    return {} if factors is None else {"rope_freqs.weight": factors}


def _refuse(config: Config) -> str | None:
    return None if config.count(*EXPERTS) else "has no experts, without which llama.cpp loads no llama4"


LLAMA4 = Architecture(
    name="llama4",
    classes=("Llama4ForCausalLM", "Llama4ForConditionalGeneration"),
    layout=Layout(
        required=attention(),
        optional=HEAD | biases() | {"rope_freqs.weight": ("head_dim / 2",)},
        parts=(
            Part(
                where=_with_experts,
                required=EXPERT_SHAPES
                | layers(
                    {
                        "ffn_gate_shexp.weight": (_LENGTH, "hidden_size"),
                        "ffn_up_shexp.weight": (_LENGTH, "hidden_size"),
                        "ffn_down_shexp.weight": ("hidden_size", _LENGTH),
                    }
                ),
            ),
            Part(where=_dense, required=DENSE),
        ),
    ),
    adjust=_adjust,
    rules=(
        Each(names="model.layers.{layer}.feed_forward.experts.gate_up_proj", make=_gate_and_up),
        Each(names="model.layers.{layer}.feed_forward.experts.down_proj", make=_down),
    ),
    pairs=_pairs,
    computed=_computed,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("llama4",)),
    refuse=_refuse,
)

ALL = (LLAMA4,)
