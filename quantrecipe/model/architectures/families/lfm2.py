"""Liquid's LFM2: short convolutions in most layers, attention in some; dense or with experts.

lfm2       and the embedding models made of it
lfm2moe    the first layers are dense, and the others have experts
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, count_pairs
from quantrecipe.model.architectures.layout import (
    DENSE,
    EXPERTS,
    FRAME,
    HEAD,
    QK_NORMS,
    Layout,
    Part,
    Shapes,
    biases,
    layers,
    self_attention,
)
from quantrecipe.model.architectures.rules import Rule, Stack, change, language_name, rename
from quantrecipe.model.architectures.shared.pooling import pooling_pairs
from quantrecipe.model.architectures.shared.state_space import squeezed
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_HIDDEN = "hidden_size"
_SIGMOID = 2  # llama.cpp: LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID


def _length(values: Mapping[str, Any]) -> Any:
    """The length of the feed-forward network: two thirds of what config.json says, rounded up, if it says so."""
    given = values.get("block_ff_dim", values.get("intermediate_size"))
    multiple, factor = values.get("block_multiple_of"), values.get("block_ffn_dim_multiplier")
    if (
        not values.get("block_auto_adjust_ff_dim")
        or not isinstance(given, int)
        or not 0 <= given < 2**32
        or not isinstance(multiple, int)
    ):
        return given
    shorter = int(2 * given / 3)
    if isinstance(factor, float) and not math.isfinite(factor):
        return factor  # which is no length, and is said to be none
    if isinstance(factor, int | float):
        shorter = int(factor * shorter)
    return -(-shorter // (multiple or 1)) * (multiple or 1)


def _types(values: Mapping[str, Any]) -> list[str]:
    """What each layer is: by its type, or by the numbers of those with attention."""
    if isinstance(types := values.get("layer_types"), list):
        return [str(it) for it in types]
    count, full = values.get("num_hidden_layers"), values.get("full_attn_idxs")
    if not isinstance(count, int):
        return []
    places = full if isinstance(full, list) else range(count)
    return ["full_attention" if layer in places else "conv" for layer in range(count)]


def _values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With key-value heads layer by layer, and the feed-forward network as long as it is."""
    types, heads = _types(values), values.get("num_key_value_heads")
    return {
        **values,
        "layer_types": types,
        "intermediate_size": _length(values),
        "num_key_value_heads": [0 if it == "conv" else heads for it in types],
    }


def _moe_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**_values(values), "intermediate_size": values.get("intermediate_size")}


def _layers_of(convolution: bool) -> Callable[[Config], list[int]]:
    """The numbers of the layers that have a convolution, or of those that have attention."""

    def where(config: Config) -> list[int]:
        types = config.per_layer(config.need(*LAYERS), "layer_types") or ()
        return [layer for layer, kind in enumerate(types) if (kind == "conv") is convolution]

    return where


def _sizes(arch: str, config: Config) -> Pairs:
    return count_pairs(arch, config, {"vocab_size": ("vocab_size",), "shortconv.l_cache": ("conv_L_cache",)})


_PARTS = (
    Part(
        where=_layers_of(True),
        required=layers(
            {
                "shortconv.conv.weight": (_HIDDEN, "conv_L_cache"),
                "shortconv.in_proj.weight": ("3 · hidden_size", _HIDDEN),
                "shortconv.out_proj.weight": (_HIDDEN, _HIDDEN),
            }
        ),
    ),
    Part(
        where=_layers_of(False),
        required=self_attention(_HIDDEN) | QK_NORMS,
        optional=biases(_HIDDEN),
    ),
)
# the norm at the end is called as the one behind the embedding is elsewhere
_FRAME: Shapes = {
    "token_embd_norm.weight" if name == "output_norm.weight" else name: shape for name, shape in FRAME.items()
} | layers({"ffn_norm.weight": (_HIDDEN,)})
_RULES: tuple[Rule, ...] = (change("model.layers.{layer}.conv.conv.weight", squeezed),)


def _name(name: str) -> str | None:
    """The audio models have theirs under "lfm."."""
    return language_name(name.replace("lfm.", "model."))


LFM2 = Architecture(
    name="lfm2",
    classes=("Lfm2ForCausalLM", "LFM2ForCausalLM"),
    layout=Layout(required=_FRAME | DENSE, optional=HEAD, parts=_PARTS),
    adjust=_values,
    pairs=lambda config: _sizes("lfm2", config),
    rename=_name,
    rules=_RULES,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("lfm2",)),
)


def _embedding_pairs(config: Config) -> Pairs:
    one_way = "Lfm2BidirectionalModel" not in config.classes
    causal = {} if one_way else {"lfm2.attention.causal": boolean(False)}
    return _sizes("lfm2", config) | causal | pooling_pairs("lfm2", config)


def _refuse_embedding(config: Config) -> str | None:
    """A matrix behind the model that is stored in a folder of its own."""
    if (config.folder / "1_Dense" / "model.safetensors").is_file():
        return "has a last matrix in 1_Dense, which quantrecipe doesn't read"
    return None


LFM2_EMBEDDING = replace(
    LFM2,
    classes=("Lfm2Model", "Lfm2BidirectionalModel"),
    refuse=_refuse_embedding,
    pairs=_embedding_pairs,
    rename=lambda name: f"model.{name}",
)


def _dense(config: Config) -> int:
    return config.count("num_dense_layers") or 0


def _moe_pairs(config: Config) -> Pairs:
    lengths = {
        "expert_feed_forward_length": ("moe_intermediate_size",),
        "leading_dense_block_count": ("num_dense_layers",),
    }
    return (
        count_pairs("lfm2moe", config, lengths)
        | {"lfm2moe.expert_gating_func": u32(_SIGMOID)}
        | _sizes("lfm2moe", config)
    )


LFM2_MOE = replace(
    LFM2,
    name="lfm2moe",
    classes=("Lfm2MoeForCausalLM",),
    layout=Layout(
        required=_FRAME,
        optional=HEAD,
        parts=(
            *_PARTS,
            Part(where=lambda config: range(_dense(config)), required=DENSE),
            Part(
                where=lambda config: range(_dense(config), config.need(*LAYERS)),
                required=EXPERTS | layers({"exp_probs_b.bias": ("num_experts",)}),
            ),
        ),
    ),
    adjust=_moe_values,
    pairs=_moe_pairs,
    rename=language_name,
    rules=(
        *_RULES,
        Stack(
            names="model.layers.{layer}.feed_forward.experts.{expert}.{matrix:w1|w2|w3}.weight",
            to="layers.{layer}.feed_forward.experts.{matrix}.weight",
        ),
        rename(
            "model.layers.{layer}.feed_forward.expert_bias",
            "model.layers.{layer}.feed_forward.expert_bias.bias",
        ),
    ),
)

ALL = (LFM2, LFM2_EMBEDDING, LFM2_MOE)
