"""StarCoder 2 and Jais 2: LayerNorm, biases on all, and a feed-forward network without a gate."""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.hyperparameters import head_dim
from quantrecipe.model.architectures.layout import (
    HEAD,
    NO_GATE,
    NO_GATE_BIASES,
    NORM_BIASES,
    Layout,
    Shapes,
    attention,
    biases,
    layers,
)
from quantrecipe.model.pairs import u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_BOTH: Shapes = NORM_BIASES | NO_GATE | NO_GATE_BIASES | layers({"attn_output.bias": ("hidden_size",)})

STARCODER2 = Architecture(
    name="starcoder2",
    classes=("Starcoder2ForCausalLM",),
    layout=Layout(required=attention("hidden_size") | _BOTH, optional=HEAD | biases("hidden_size")),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("starcoder",)),
)

JAIS2 = replace(
    STARCODER2,
    name="jais2",
    classes=("Jais2ForCausalLM",),
    layout=Layout(required=attention() | _BOTH, optional=HEAD | biases()),
    pairs=lambda config: {"jais2.rope.dimension_count": u32(head_dim(config))},
    vocabulary=Vocabulary(kinds=("bpe",), pre=("jais-2",)),
)

ALL = (STARCODER2, JAIS2)
