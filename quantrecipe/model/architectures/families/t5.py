"""T5, mT5, UMT5 and Flan-T5: an encoder and a decoder, or an encoder alone; attention knows places by relative biases.

    shared, encoder.embed_tokens, decoder.embed_tokens   ▶  token_embd
    encoder.block.3.layer.0.SelfAttention.q              ▶  enc.blk.3.attn_q
    decoder.block.3.layer.1.EncDecAttention.q            ▶  dec.blk.3.cross_attn_q

The three embeddings are copies of one tensor, and a file has one or more of them. Only the first
layer of T5 has relative biases; UMT5 has them in each one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, Table, count_pairs, number_pairs
from quantrecipe.model.architectures.layout import Layout, Part, Shapes
from quantrecipe.model.architectures.rules import First
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_CONTEXT = 512  # what the converter takes where config.json has no n_positions
_ATTENTION = "num_heads · d_kv"

_SIZES: Table = {"embedding_length": ("d_model",), "feed_forward_length": ("d_ff",), "block_count": LAYERS}
_HEADS: Table = {
    "attention.head_count": ("num_heads",),
    "attention.key_length": ("d_kv",),
    "attention.value_length": ("d_kv",),
}


def _decoder_layers(config: Config) -> int:
    return config.count("num_decoder_layers") or config.need(*LAYERS)


def _common(arch: str, config: Config) -> Pairs:
    pairs = {f"{arch}.context_length": u32(config.count("n_positions") or _CONTEXT)}
    pairs |= count_pairs(arch, config, _SIZES)
    if arch == T5.name:
        pairs |= count_pairs(arch, config, {"decoder_block_count": ("num_decoder_layers",)})
    pairs |= count_pairs(arch, config, _HEADS)
    pairs |= number_pairs(arch, config, {"attention.layer_norm_epsilon": ("layer_norm_epsilon",)})
    buckets: Table = {"attention.relative_buckets_count": ("relative_attention_num_buckets",)}
    pairs |= count_pairs(arch, config, buckets)
    return pairs | number_pairs(arch, config, {"attention.layer_norm_rms_epsilon": ("layer_norm_epsilon",)})


def _t5_pairs(arch: str, config: Config) -> Pairs:
    """The token that a decoder's text begins with, on top of the keys that an encoder has."""
    if (token := config.count("decoder_start_token_id")) is None:
        config.fail("has no decoder_start_token_id (expected: a token's number)")
    return _common(arch, config) | {f"{arch}.decoder_start_token_id": u32(token)}


def _shapes(tower: str, parts: Iterable[str]) -> Shapes:
    """Attention of these parts ("attn", "cross_attn") and a feed-forward, in each layer."""
    shapes: Shapes = {
        "ffn_norm": ("d_model",),
        "ffn_up": ("d_ff", "d_model"),
        "ffn_down": ("d_model", "d_ff"),
    }
    for part in parts:
        shapes[f"{part}_norm"] = ("d_model",)
        shapes |= {f"{part}_{name}": (_ATTENTION, "d_model") for name in "qkv"}
        shapes[f"{part}_o"] = ("d_model", _ATTENTION)
    return {f"{tower}.blk.{{layer}}.{name}.weight": shape for name, shape in shapes.items()}


def _tower(name: str, attentions: Iterable[str], count: Callable[[Config], int]) -> tuple[Part, ...]:
    """The layers of one tower. All may have relative biases, and the first has to."""
    block = f"{name}.blk.{{layer}}"
    bias = ("relative_attention_num_buckets", "num_heads")
    return (
        Part(
            where=lambda config: range(count(config)),
            required=_shapes(name, attentions),
            optional={f"{block}.ffn_gate.weight": ("d_ff", "d_model")},
        ),
        Part(
            where=lambda config: range(count(config)),
            optional={f"{block}.{it}_rel_b.weight": bias for it in attentions},
            loose=True,
        ),
        Part(where=lambda config: (0,), required={f"{block}.attn_rel_b.weight": bias}),
    )


_ENCODER = _tower("enc", ("attn",), lambda config: config.need(*LAYERS))
_EMBEDDING: Shapes = {"token_embd.weight": ("vocab_size", "d_model"), "enc.output_norm.weight": ("d_model",)}
_OUTPUT: Shapes = {"output.weight": ("vocab_size", "d_model")}

T5 = Architecture(
    name="t5",
    classes=(
        "MT5ForConditionalGeneration",
        "T5ForConditionalGeneration",
        "T5WithLMHeadModel",
        "UMT5ForConditionalGeneration",
        "UMT5Model",
    ),
    layout=Layout(
        required=_EMBEDDING | {"dec.output_norm.weight": ("d_model",)},
        optional=_OUTPUT,
        parts=(*_ENCODER, *_tower("dec", ("attn", "cross_attn"), _decoder_layers)),
    ),
    layers=lambda config: max(config.need(*LAYERS), _decoder_layers(config)),
    common=_t5_pairs,
    pairs=lambda config: count_pairs("t5", config, {"block_count": LAYERS}),  # of the encoder alone
    vocabulary=Vocabulary(kinds=("unigram", "sentencepiece")),
    rules=(
        First(names="{place:decoder.embed_tokens|encoder.embed_tokens|shared}.weight", to="shared.weight"),
    ),
)

T5_ENCODER = replace(
    T5,
    name="t5encoder",
    classes=("T5EncoderModel",),
    layout=Layout(required=_EMBEDDING, optional=_OUTPUT, parts=_ENCODER),
    layers=lambda config: config.need(*LAYERS),
    common=_common,
    pairs=lambda config: {},
)

ALL = (T5, T5_ENCODER)
