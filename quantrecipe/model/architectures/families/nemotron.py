"""NVIDIA's Nemotron (Minitron): LayerNorm without its 1, and no gate in the feed-forward network.

Nemotron-H, its hybrid successor, is in `nemotron_h`.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import HEADS, HIDDEN
from quantrecipe.model.architectures.layout import (
    HEAD,
    NO_GATE,
    NO_GATE_BIASES,
    NORM_BIASES,
    Layout,
    attention,
    biases,
    layers,
)
from quantrecipe.model.architectures.rules import change, plus_one
from quantrecipe.model.pairs import Pairs, f32, text, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EPSILON = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")


def _rotated(config: Config) -> int:
    """How many numbers of each head are rotated."""
    share = config.rope_number("partial_rotary_factor")
    if share is None:
        share = config.number("partial_rotary_factor", "rope_pct", "rope_percent")
    if share is None:
        config.fail("has no partial_rotary_factor (expected: a number, such as 0.5)")
    return int(share * config.need(*HIDDEN)) // config.need(*HEADS)


def _pairs(config: Config) -> Pairs:
    epsilon = config.number(*_EPSILON)
    if epsilon is None:
        config.fail("has no norm_eps (expected: a number)")
    pairs = {
        "nemotron.vocab_size": u32(config.need("vocab_size")),
        "nemotron.attention.layer_norm_epsilon": f32(epsilon),
        "nemotron.rope.dimension_count": u32(_rotated(config)),
    }
    factor = config.number("factor") or config.rope_number("factor")
    pairs["nemotron.rope.scaling.type"] = text("none" if factor is None else "linear")
    return pairs if factor is None else pairs | {"nemotron.rope.scaling.factor": f32(factor)}


def _tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """The first two tokens are those for padding and for what is unknown, whatever the tokenizer says."""
    return pairs | {"tokenizer.ggml.padding_token_id": u32(0), "tokenizer.ggml.unknown_token_id": u32(1)}


NEMOTRON = Architecture(
    name="nemotron",
    classes=("NemotronForCausalLM",),
    layout=Layout(
        required=attention("hidden_size") | HEAD | NORM_BIASES | NO_GATE,
        optional=biases("hidden_size") | NO_GATE_BIASES | layers({"attn_output.bias": ("hidden_size",)}),
    ),
    rules=(change("{stem:*}norm.weight", plus_one),),
    pairs=_pairs,
    vocabulary=Vocabulary(kinds=("sentencepiece",)),
    tokenizer=_tokenizer,
)

ALL = (NEMOTRON,)
