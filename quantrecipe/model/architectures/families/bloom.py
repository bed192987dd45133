"""BLOOM, GPT-NeoX and Falcon: q, k and v in one matrix, head by head, which llama.cpp has one after the other.

BLOOM, GPT-NeoX    q of head 0, k of head 0, v of head 0, q of head 1, …
Falcon             all q of the heads that share a k and a v, this k and this v; then those of the next
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.gpt2 import LAYER_NORM_FUSED, four_times
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    LAYERS,
    count_pairs,
    head_dim,
    number_pairs,
)
from quantrecipe.model.architectures.layout import (
    FRAME,
    FUSED,
    HEAD,
    NO_GATE,
    Layout,
    Shapes,
    layers,
)
from quantrecipe.model.architectures.rules import Found, change, language_name
from quantrecipe.model.pairs import Pairs, boolean, text, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource, fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EPSILON = {"attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps")}


def _numbers(source: TensorSource) -> int:
    """How many rows a matrix has, or numbers a bias."""
    return source.cols if len(source.shape) == 1 else source.rows


def _one_after_the_other(it: Found) -> TensorSource:
    """(heads, 3, length of a head) → (3, heads, length of a head)."""
    heads = it.config.need(*HEADS)
    if (count := _numbers(it.source)) % (3 * heads):
        fail(it.source, f"has {count} rows, which q, k and v of {heads} heads don't divide")
    return layout.regroup(it.source, (heads, 3, count // (3 * heads)), (1, 0, 2))


def _bloom_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Old files call the hidden size n_embed."""
    return {**values, "hidden_size": values.get("hidden_size", values.get("n_embed"))}


def _bloom_common(arch: str, config: Config) -> Pairs:
    hidden, heads = config.need(*HIDDEN), config.need("n_head", *HEADS)
    return {
        f"{arch}.context_length": u32(config.count("seq_length") or hidden),
        f"{arch}.embedding_length": u32(hidden),
        f"{arch}.feed_forward_length": u32(four_times(config)),
        **count_pairs(arch, config, {"block_count": LAYERS}),
        f"{arch}.attention.head_count": u32(heads),
        f"{arch}.attention.head_count_kv": u32(heads),
        **number_pairs(arch, config, _EPSILON),
    }


BLOOM = Architecture(
    name="bloom",
    classes=("BloomForCausalLM", "BloomModel"),
    layout=Layout(
        required=LAYER_NORM_FUSED
        | {"token_embd_norm.weight": ("hidden_size",), "token_embd_norm.bias": ("hidden_size",)},
        optional=HEAD,
    ),
    adjust=_bloom_values,
    common=_bloom_common,
    rename=lambda name: language_name(name.replace("transformer.", "")),
    rules=(change("h.{layer}.self_attention.query_key_value.{end}", _one_after_the_other),),
    lengths={
        "intermediate_size": four_times,
        "num_key_value_heads": lambda config, layer: config.need(*HEADS),
    },
    vocabulary=Vocabulary(kinds=("bpe",), pre=("bloom",)),
)


def _rotated(config: Config) -> int:
    share = config.number("rotary_pct", "partial_rotary_factor")
    if share is None:
        share = config.rope_number("partial_rotary_factor")
    return int((0.25 if share is None else share) * head_dim(config))


def _neox_common(arch: str, config: Config) -> Pairs:
    return {
        f"{arch}.context_length": u32(config.need("max_position_embeddings")),
        f"{arch}.embedding_length": u32(config.need(*HIDDEN)),
        **count_pairs(arch, config, {"block_count": LAYERS}),
        f"{arch}.feed_forward_length": u32(config.need("intermediate_size")),
        f"{arch}.rope.dimension_count": u32(_rotated(config)),
        f"{arch}.attention.head_count": u32(config.need(*HEADS)),
        f"{arch}.use_parallel_residual": boolean(config.flag("use_parallel_residual") is not False),
        **number_pairs(arch, config, _EPSILON),
    }


GPT_NEOX = Architecture(
    name="gptneox",
    classes=("GPTNeoXForCausalLM",),
    layout=Layout(required=LAYER_NORM_FUSED | HEAD),
    file_type=False,
    common=_neox_common,
    rules=(change("gpt_neox.layers.{layer}.attention.query_key_value.{end}", _one_after_the_other),),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("olmo",)),
)


def _kv_heads(config: Config, layer: int = 0) -> int:
    """Older ones have one for all heads, whatever num_kv_heads says: transformers doesn't ask for it then."""
    if config.flag("multi_query") and not config.flag("new_decoder_architecture"):
        return 1
    return config.count("num_kv_heads") or config.count("n_head_kv") or 1


def _groups_apart(it: Found) -> TensorSource:
    """(groups, heads of a group + 2, length of a head): all q, then all k, then all v."""
    source, groups, size = it.source, _kv_heads(it.config), head_dim(it.config)
    shared = it.config.need(*HEADS) // groups
    if len(source.shape) != 2 or source.rows != groups * (shared + 2) * size:
        fail(source, f"has the shape {source.shape}, which {groups} groups of {shared} heads don't make")
    grouped = layout.reshape(source, (groups, (shared + 2) * size, source.cols))
    cuts = (0, shared * size, (shared + 1) * size, (shared + 2) * size)
    parts = [layout.rows(grouped, first, last) for first, last in pairwise(cuts)]
    flat = [layout.reshape(part, (part.total_rows, part.cols)) for part in parts]
    return layout.concat(flat)


def _falcon_common(arch: str, config: Config) -> Pairs:
    return {
        f"{arch}.context_length": u32(2048),  # config.json has none
        f"{arch}.tensor_data_layout": text("jploski"),  # who found the order of q, k and v
        f"{arch}.embedding_length": u32(config.need(*HIDDEN)),
        f"{arch}.feed_forward_length": u32(four_times(config)),
        **count_pairs(arch, config, {"block_count": LAYERS}),
        f"{arch}.attention.head_count": u32(config.need(*HEADS)),
        f"{arch}.attention.head_count_kv": u32(_kv_heads(config)),
        **number_pairs(arch, config, _EPSILON),
    }


_FALCON: Shapes = {"output_norm.bias": ("hidden_size",)} | layers({"attn_norm.bias": ("hidden_size",)})

FALCON = replace(
    GPT_NEOX,
    name="falcon",
    classes=("FalconForCausalLM", "RWForCausalLM"),
    layout=Layout(
        required=FRAME | _FALCON | FUSED | NO_GATE,
        optional=HEAD
        | layers({"attn_norm_2.weight": ("hidden_size",), "attn_norm_2.bias": ("hidden_size",)}),
    ),
    file_type=True,
    common=_falcon_common,
    rules=(change("transformer.h.{layer}.self_attention.query_key_value.weight", _groups_apart),),
    lengths={"intermediate_size": four_times, "num_key_value_heads": _kv_heads},
    vocabulary=Vocabulary(kinds=("bpe",), pre=("falcon",)),
)

ALL = (BLOOM, GPT_NEOX, FALCON)
