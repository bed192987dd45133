"""Stability AI's StableLM: layer norms with biases, and rotary positions in a part of each head.

StableLM 2 12B has a norm for each head of q and k, stored one by one, and attention beside the feed-forward network
instead of before it, which then has no norm of its own.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases, layers
from quantrecipe.model.architectures.rope import rotated
from quantrecipe.model.architectures.rules import Stack
from quantrecipe.model.pairs import Pairs, boolean, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_NORM = ("hidden_size",)


def _keys(arch: str, config: Config) -> Pairs:
    """The keys, which stand in an order of their own."""
    pairs = count_pairs(
        arch,
        config,
        {
            "context_length": ("max_position_embeddings",),
            "embedding_length": HIDDEN,
            "block_count": LAYERS,
            "feed_forward_length": ("intermediate_size",),
        },
    )
    turning = rotated(config, config.need(*HIDDEN) // config.need(*HEADS))
    pairs[f"{arch}.rope.dimension_count"] = u32(turning)
    pairs |= count_pairs(arch, config, {"attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS})
    beside = config.flag("use_parallel_residual")
    pairs[f"{arch}.use_parallel_residual"] = boolean(beside is None or beside)
    return pairs | number_pairs(
        arch, config, {"attention.layer_norm_epsilon": ("layer_norm_eps", "norm_eps")}
    )


def _head_norms(name: str, by: tuple[str, ...]) -> Stack:
    """The norms of all heads, which are stored one by one, as one matrix."""
    attention = "model.layers.{layer}.self_attn." + name
    return Stack(
        names=attention + ".norms.{expert}.{matrix:weight}",
        to=attention + ".{matrix}",
        count=lambda config: config.need(*by),
        by=by,
    )


STABLELM = Architecture(
    name="stablelm",
    classes=("StableLmForCausalLM", "StableLMEpochForCausalLM", "LlavaStableLMEpochForCausalLM"),
    layout=Layout(
        required=attention("hidden_size", norms=("attn_norm",))
        | HEAD
        | DENSE
        | {"output_norm.bias": _NORM}
        | layers({"attn_norm.bias": _NORM}),
        optional=biases("hidden_size")
        | layers(
            {
                "attn_q_norm.weight": ("num_attention_heads", "head_dim"),
                "attn_k_norm.weight": ("num_key_value_heads", "head_dim"),
                "ffn_norm.weight": _NORM,
                "ffn_norm.bias": _NORM,
            }
        ),
    ),
    common=_keys,
    vocabulary=Vocabulary(kinds=("bpe", "tiktoken"), pre=("stablelm2",)),
    rules=(_head_norms("q_layernorm", HEADS), _head_norms("k_layernorm", KV_HEADS)),
)

ALL = (STABLELM,)
