"""DeciLM and Nemotron Super and Ultra, which a search made of Llama: each layer has its own heads and feed-forward.

    block_configs in config.json          the layer has
    attention.n_heads_in_group            attention, with so many heads for each head of keys and values
    attention.replace_with_linear         one matrix instead of attention
    neither                               no attention
    ffn.ffn_mult                          a feed-forward network; its length is this times 2/3 of the hidden size

A layer that has neither is left out of the file. DeciLM 7B has num_key_value_heads_per_layer instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import ROTARY, rotary_factors
from quantrecipe.model.architectures.hyperparameters import (
    FEED_FORWARD,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    common_pairs,
    count_pairs,
    number_pairs,
    rope_dimensions,
)
from quantrecipe.model.architectures.layout import (
    DENSE,
    DENSE_BIASES,
    FEED_FORWARD_NORM,
    HEAD,
    KV,
    Layout,
    Part,
    Q,
    biases,
    layers,
)
from quantrecipe.model.architectures.rope import rope_pairs
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_BLOCKS, _PER_LAYER = "block_configs", "num_key_value_heads_per_layer"
_MULTIPLE = 256  # lengths of feed-forward networks are multiples of it
_HEADS_OF_KV = "attention.head_count_kv"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _heads(attention: Mapping[str, Any], heads: int) -> tuple[int, int] | None:
    """A layer's heads of queries, and of keys and values; None where it says something else than that."""
    group = attention.get("n_heads_in_group")
    if group is None:
        return (heads if attention.get("replace_with_linear") is True else 0), 0
    return (heads, heads // group) if _is_size(group) and heads % group == 0 else None


def _length(ffn: Mapping[str, Any], hidden: int) -> int | None:
    """The length of a layer's feed-forward network, 0 where it has none; None where it says something else."""
    times = ffn.get("ffn_mult")
    times = 0 if times is None else times
    if isinstance(times, bool) or not isinstance(times, int | float) or not 0 <= times < 2**16:
        return None
    return -(-int(2 * times * hidden / 3) // _MULTIPLE) * _MULTIPLE


def _sizes(values: Mapping[str, Any]) -> Sequence[tuple[int, int, int]] | None:
    """Each layer's heads, heads of keys and values, and length; None where block_configs has no such form."""
    blocks: Any = values.get(_BLOCKS)
    heads: Any = values.get("num_attention_heads")
    hidden: Any = values.get("hidden_size")
    if not isinstance(blocks, list) or not _is_size(heads) or not _is_size(hidden):
        return None
    sizes = []
    for block in blocks:
        attention, ffn = (
            (block.get("attention"), block.get("ffn")) if isinstance(block, Mapping) else (None, None)
        )
        if not isinstance(attention, Mapping) or not isinstance(ffn, Mapping):
            return None
        counts, length = _heads(attention, heads), _length(ffn, hidden)
        if counts is None or length is None:
            return None
        sizes.append((*counts, length))
    return sizes


def _adjust(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a list for each size that layers have of their own, under its usual name."""
    if (sizes := _sizes(values)) is not None:
        return {
            **values,
            "head_dim": values["hidden_size"] // values["num_attention_heads"],
            "num_attention_heads": [heads for heads, _, _ in sizes],
            "num_key_value_heads": [heads for _, heads, _ in sizes],
            "intermediate_size": [length for _, _, length in sizes],
        }
    if values.get(_BLOCKS) is None and values.get(_PER_LAYER) is not None:
        return {**values, "num_key_value_heads": values[_PER_LAYER]}
    return values


def _refuse(config: Config) -> str | None:
    blocks = config.find(_BLOCKS)
    if blocks is None:
        return None
    if not isinstance(config.find(*HEADS), list):
        return 'has block_configs that don\'t say "n_heads_in_group" and "ffn_mult" as others do'
    if len(blocks) != config.need(*LAYERS):
        return f"has {len(blocks)} block_configs for {config.need(*LAYERS)} layers"
    return None


def _having(count: Callable[[Config, int], int]) -> Callable[[Config], Iterable[int]]:
    """The layers that have something, by how much of it they have."""
    return lambda config: (layer for layer in range(config.need(*LAYERS)) if count(config, layer))


def _queries(config: Config, layer: int) -> int:
    return config.at(layer, *HEADS)


def _keys(config: Config, layer: int) -> int:
    return config.at(layer, *(KV_HEADS if config.find(*KV_HEADS) is not None else HEADS))


def _feed_forward(config: Config, layer: int) -> int:
    return config.at(layer, *FEED_FORWARD)


def _anything(config: Config, layer: int) -> int:
    return _queries(config, layer) or _feed_forward(config, layer)


def _common(arch: str, config: Config) -> Pairs:
    if config.find(_BLOCKS) is None:
        pairs = common_pairs(arch, config)
        if config.find(_PER_LAYER) is not None:
            pairs.pop(f"{arch}.{_HEADS_OF_KV}", None)  # which stands behind all others
        return pairs
    theta = {key: it for key, it in rope_pairs(arch, config).items() if key == f"{arch}.rope.freq_base"}
    counts = {
        _HEADS_OF_KV: KV_HEADS,
        "attention.head_count": HEADS,
        "feed_forward_length": FEED_FORWARD,
        "block_count": LAYERS,
        "context_length": ("max_position_embeddings",),
        "embedding_length": HIDDEN,
    }
    if config.number("rms_norm_eps") is None:
        config.fail("has no rms_norm_eps (expected: a number)")
    config.need("max_position_embeddings")
    length = u32(config.need("head_dim"))
    return {
        **theta,
        **count_pairs(arch, config, counts),
        **number_pairs(arch, config, {"attention.layer_norm_rms_epsilon": ("rms_norm_eps",)}),
        f"{arch}.attention.key_length": length,
        f"{arch}.attention.value_length": length,
    }


def _pairs(config: Config) -> Pairs:
    behind = {_HEADS_OF_KV: KV_HEADS} if config.find(_PER_LAYER) is not None else {}
    return count_pairs("deci", config, behind) | rope_dimensions("deci", config)


_ATTENTION = layers(
    {
        "attn_q.weight": (Q, "hidden_size"),
        "attn_k.weight": (KV, "hidden_size"),
        "attn_v.weight": (KV, "hidden_size"),
    }
)

DECI = Architecture(
    name="deci",
    classes=("DeciLMForCausalLM",),
    layout=Layout(
        required={"token_embd.weight": ("vocab_size", "hidden_size"), "output_norm.weight": ("hidden_size",)},
        optional=HEAD | {"rope_freqs.weight": ("head_dim / 2",)},
        parts=(
            Part(
                where=_having(_queries),
                required=layers(
                    {"attn_norm.weight": ("hidden_size",), "attn_output.weight": ("hidden_size", Q)}
                ),
                optional=layers({"attn_output.bias": ("hidden_size",)}),
            ),
            Part(where=_having(_keys), required=_ATTENTION, optional=biases()),
            Part(where=_having(_feed_forward), required=FEED_FORWARD_NORM | DENSE, optional=DENSE_BIASES),
        ),
        present=_having(_anything),
    ),
    default_theta=None,
    adjust=_adjust,
    refuse=_refuse,
    common=_common,
    pairs=_pairs,
    rules=ROTARY,
    vocabulary=Vocabulary(kinds=("bpe", "llama-hf")),
    computed=rotary_factors,
)

ALL = (DECI,)
