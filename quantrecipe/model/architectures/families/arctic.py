"""Snowflake's Arctic: a dense network of the hidden size in each layer, and experts beside it."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import ROTARY
from quantrecipe.model.architectures.hyperparameters import HEADS, HIDDEN
from quantrecipe.model.architectures.layout import HEAD, WIDE_EXPERTS, Layout, attention, biases, layers
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_HIDDEN = "hidden_size"
_SQUARE = (_HIDDEN, _HIDDEN)


def _pairs(config: Config) -> Pairs:
    return {
        "arctic.vocab_size": u32(config.need("vocab_size")),
        "arctic.rope.dimension_count": u32(config.need(*HIDDEN) // config.need(*HEADS)),
    }


ARCTIC = Architecture(
    name="arctic",
    classes=("ArcticForCausalLM",),
    layout=Layout(
        required=attention(_HIDDEN)
        | layers(
            {
                "ffn_gate.weight": _SQUARE,
                "ffn_up.weight": _SQUARE,
                "ffn_down.weight": _SQUARE,
                "ffn_norm_exps.weight": (_HIDDEN,),
            }
        )
        | WIDE_EXPERTS,
        optional=HEAD | biases(_HIDDEN),
    ),
    pairs=_pairs,
    rules=(
        *ROTARY,
        Stack(
            names="model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix:w1|w2|w3}.weight",
            to="layers.{layer}.feed_forward.experts.{matrix}.weight",
        ),
    ),
    vocabulary=Vocabulary(kinds=("sentencepiece",), added="scores"),
)

ALL = (ARCTIC,)
