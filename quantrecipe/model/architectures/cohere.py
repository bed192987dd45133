"""Cohere's Command R: attention and feed-forward network side by side, so that a layer has one norm for both.

    command-r   Command R, R+ and Aya: no sliding window; the two largest have norms on q and k
    cohere2     Command R7B and A: three of four layers see a sliding window
    cohere2moe  the same with experts, and draft heads

The embedding is the output, but for the last. Llama.cpp has rotary positions unscaled here, whatever config.json says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    LAYERS,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import DENSE, Layout, Part, attention, biases, layers
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.pairs import Pairs, text, u32
from quantrecipe.model.source.reading import read_whole
from quantrecipe.model.source.source import fail
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_NORMED_LAYERS = 64
"""llama.cpp looks for norms on q and k in models of so many layers and more."""

_WINDOW = {"attention.sliding_window": ("sliding_window",)}
_VOCABULARY = Vocabulary(kinds=("bpe",), pre=("command-r",))
_LOGITS = {"logit_scale": ("logit_scale",)}


def _unscaled(arch: str) -> Pairs:
    """The key that says: no scaling of the rotary positions."""
    return {f"{arch}.rope.scaling.type": text("none")}


def _without_biases(it: Found) -> Iterable[Named]:
    """Biases, for which llama.cpp has no place, are left out where they are zeros."""
    with TensorReader() as reader:
        if read_whole(it.source, reader, tensor=it.name).any():
            fail(it.source, "has biases that aren't zero, and llama.cpp has none here", "use another model")
    return ()


_NO_BIASES = Each(names="{name:*}.bias", make=_without_biases)


def _trained_context(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """max_position_embeddings is 8192 in the first Command R's config.json, though it was trained on 128 K."""
    length = values.get("model_max_length")
    return values if length is None else {**values, "max_position_embeddings": length}


def _command_r_pairs(config: Config) -> Pairs:
    return number_pairs("command-r", config, _LOGITS) | _unscaled("command-r")


COMMAND_R = Architecture(
    name="command-r",
    classes=("CohereForCausalLM",),
    layout=Layout(
        required=attention("hidden_size", norms=("attn_norm",)) | DENSE,
        optional=biases("hidden_size"),
        parts=(
            Part(
                where=lambda config: (
                    range(config.need(*LAYERS)) if config.need(*LAYERS) >= _NORMED_LAYERS else ()
                ),
                required=layers(
                    {
                        "attn_q_norm.weight": ("num_attention_heads", "head_dim"),
                        "attn_k_norm.weight": ("num_key_value_heads", "head_dim"),
                    }
                ),
            ),
        ),
    ),
    adjust=_trained_context,
    pairs=_command_r_pairs,
    vocabulary=_VOCABULARY,
)


def _cohere2_pairs(config: Config) -> Pairs:
    part = config.number("rotary_pct")
    turning = int((1.0 if part is None else part) * (config.need(*HIDDEN) // config.need(*HEADS)))
    return (
        number_pairs("cohere2", config, _LOGITS)
        | count_pairs("cohere2", config, _WINDOW | {"vocab_size": ("vocab_size",)})
        | {"cohere2.rope.dimension_count": u32(turning)}
        | _unscaled("cohere2")
    )


COHERE2 = Architecture(
    name="cohere2",
    classes=("Cohere2ForCausalLM",),
    layout=Layout(required=attention("hidden_size", norms=("attn_norm",)) | DENSE),
    rules=(_NO_BIASES,),
    pairs=_cohere2_pairs,
    vocabulary=_VOCABULARY,
)

ALL = (COMMAND_R, COHERE2)
