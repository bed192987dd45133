"""OpenELM: layers that grow from first to last, with heads and feed-forward of a length of their own.

    …ffn.proj_1.weight (2 · length, hidden)  ▶  ffn_gate, ffn_up (length, hidden)

Its class is remote code, so config.json has names that no other model has. q, k and v stay one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, Table, count_pairs
from quantrecipe.model.architectures.layout import DENSE, QK_NORMS, Layout, attention, layers
from quantrecipe.model.architectures.rules import Each, Found, Named, halves
from quantrecipe.model.pairs import Pairs, f32, i32s, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EPSILON = 1e-6  # a fixed number of the remote code: modeling_openelm.py, OpenELMRMSNorm
_USUAL = {
    "num_hidden_layers": "num_transformer_layers",
    "hidden_size": "model_dim",
    "num_attention_heads": "num_query_heads",
    "num_key_value_heads": "num_kv_heads",
    "max_position_embeddings": "max_context_length",
    "rope_theta": "rope_freq_constant",
}
_FIRST: Table = {
    "block_count": LAYERS,
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
}
_HEADS: Table = {
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
}


def _adjust(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hyper-parameters by the names that other models have for them."""
    return {**values, **{usual: values[own] for usual, own in _USUAL.items() if own in values}}


def _lengths(config: Config) -> list[int]:
    """The length of each layer's feed-forward: a multiple of the hidden size, rounded as the remote code rounds.

    To a multiple of the divisor; up where it would become smaller by a tenth or more.
    """
    hidden, divisor = config.need("hidden_size"), config.need("ffn_dim_divisor")
    factors = config.per_layer(config.need(*LAYERS), "ffn_multipliers")
    if factors is None:
        config.fail("has no ffn_multipliers (expected: a number for each layer)")
    lengths = []
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 2**16:
            config.fail("has ffn_multipliers that aren't numbers above 0")
        exact = factor * hidden
        length = max(divisor, int(exact + divisor / 2) // divisor * divisor)
        lengths.append(length if length >= 0.9 * exact else length + divisor)
    return lengths


def _length(config: Config, layer: int) -> int:
    return _lengths(config)[layer]


def _gate_and_up(it: Found) -> list[Named]:
    gate, up = halves(it.source)
    return [(f"blk.{it.layer}.ffn_gate.weight", gate), (f"blk.{it.layer}.ffn_up.weight", up)]


def _common(arch: str, config: Config) -> Pairs:
    length = u32(config.need("head_dim"))
    pairs = count_pairs(arch, config, _FIRST)
    pairs[f"{arch}.feed_forward_length"] = i32s(_lengths(config))
    pairs |= count_pairs(arch, config, _HEADS)
    if (theta := config.rope_number("rope_theta")) is not None:
        pairs[f"{arch}.rope.freq_base"] = f32(theta)
    pairs[f"{arch}.attention.layer_norm_rms_epsilon"] = f32(_EPSILON)
    keys = ("rope.dimension_count", "attention.key_length", "attention.value_length")
    return pairs | {f"{arch}.{key}": length for key in keys}


_FUSED = {
    name: shape
    for name, shape in attention().items()
    if not name.endswith((".attn_q.weight", ".attn_k.weight", ".attn_v.weight"))
}

OPENELM = Architecture(
    name="openelm",
    classes=("OpenELMForCausalLM",),
    layout=Layout(
        required=_FUSED
        | QK_NORMS
        | DENSE
        | layers(
            {
                "attn_qkv.weight": (
                    "num_attention_heads · head_dim + 2 · num_key_value_heads · head_dim",
                    "hidden_size",
                )
            }
        ),
    ),
    lengths={"intermediate_size": _length},
    adjust=_adjust,
    rules=(Each(names="transformer.layers.{layer}.ffn.proj_1.weight", make=_gate_and_up),),
    common=_common,
    vocabulary=Vocabulary(kinds=("sentencepiece",)),
)

ALL = (OPENELM,)
