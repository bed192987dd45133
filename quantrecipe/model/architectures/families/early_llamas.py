"""The first models in Llama's frame, from before its format was everybody's; and Refact, which has GPT-2's names.

    baichuan  q, k and v in one matrix; the larger ones have ALiBi in the place of rotary positions
    xverse    q and k in llama.cpp's rotary order only
    orion     layer norms with biases
    refact    ALiBi, one head of keys and values, and gate and up in one matrix

XVERSE's tokens have no scores in the GGUF.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import ROTARY
from quantrecipe.model.architectures.hyperparameters import (
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    count_pairs,
    number_pairs,
)
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases, layers
from quantrecipe.model.architectures.rules import Each, Found, Named, halves
from quantrecipe.model.pairs import Pairs, text, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_NORM = ("hidden_size",)
_PIECES = Vocabulary(kinds=("sentencepiece",))
_FRAME = attention("hidden_size") | HEAD | DENSE


def _origin(arch: str) -> Pairs:
    """The key that says whose order the rows of q and k have."""
    return {f"{arch}.tensor_data_layout": text("Meta AI original pth")}


def _rotary_pairs(arch: str, config: Config) -> Pairs:
    turning = config.need(*HIDDEN) // config.need(*HEADS)
    return _origin(arch) | {f"{arch}.rope.dimension_count": u32(turning)}


def _apart(it: Found) -> Iterator[Named]:
    """A third of W_pack's rows each is q, k and v."""
    heads, rows = it.config.need(*HEADS), it.source.rows // 3
    if len(it.source.shape) != 2 or it.source.rows % 3 or rows % (2 * heads):
        fail(it.source, f"has the shape {it.source.shape} (expected: q, k and v of {heads} heads)")
    q, k, v = (layout.rows(it.source, start, start + rows) for start in (0, rows, 2 * rows))
    yield f"blk.{it.layer}.attn_q.weight", layout.rope_order(q, heads)
    yield f"blk.{it.layer}.attn_k.weight", layout.rope_order(k, heads)
    yield f"blk.{it.layer}.attn_v.weight", v


BAICHUAN = Architecture(
    name="baichuan",
    classes=("BaichuanForCausalLM", "BaiChuanForCausalLM"),
    layout=Layout(required=_FRAME, optional=biases("hidden_size")),
    rules=(Each(names="model.layers.{layer}.self_attn.W_pack.weight", make=_apart),),
    default_theta=None,
    pairs=lambda config: _rotary_pairs("baichuan", config),
    vocabulary=_PIECES,
)


def _unscored(config: Config, pairs: Pairs) -> Pairs:
    """The converter writes no scores here: all tokens are alike to llama.cpp."""
    return {key: value for key, value in pairs.items() if key != "tokenizer.ggml.scores"}


XVERSE = Architecture(
    name="xverse",
    classes=("XverseForCausalLM",),
    layout=Layout(required=_FRAME, optional=biases("hidden_size")),
    rules=ROTARY,
    default_theta=None,
    pairs=lambda config: _rotary_pairs("xverse", config),
    vocabulary=Vocabulary(kinds=("llama-hf",)),
    tokenizer=_unscored,
)


def _no_pairs(arch: str, config: Config) -> Pairs:
    return {}


def _orion_pairs(config: Config) -> Pairs:
    """All keys, which stand behind general.file_type. The epsilon of RMS norms is one of layer norms here."""
    kv_heads = KV_HEADS if config.find(*KV_HEADS) is not None else HEADS
    counts = {
        "context_length": ("max_sequence_length", "max_position_embeddings", "model_max_length"),
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": ("intermediate_size",),
        "attention.head_count": HEADS,
        "attention.head_count_kv": kv_heads,
    }
    return (
        _origin("orion")
        | count_pairs("orion", config, counts)
        | number_pairs("orion", config, {"attention.layer_norm_epsilon": ("rms_norm_eps",)})
    )


ORION = Architecture(
    name="orion",
    classes=("OrionForCausalLM",),
    layout=Layout(
        required=_FRAME
        | {"output_norm.bias": _NORM}
        | layers({"attn_norm.bias": _NORM, "ffn_norm.bias": _NORM}),
        optional=biases("hidden_size"),
    ),
    common=_no_pairs,
    pairs=_orion_pairs,
    vocabulary=_PIECES,
)

_MULTIPLE = 256


def _refact_length(config: Config, layer: int = 0) -> int:
    """Of the feed-forward network: two thirds of four times the hidden size, rounded up."""
    return -(-(8 * config.need(*HIDDEN) // 3) // _MULTIPLE) * _MULTIPLE


def _refact_keys(arch: str, config: Config) -> Pairs:
    return (
        count_pairs(arch, config, {"context_length": ("n_positions",), "embedding_length": HIDDEN})
        | {f"{arch}.feed_forward_length": u32(_refact_length(config))}
        | count_pairs(arch, config, {"block_count": LAYERS, "attention.head_count": HEADS})
        | {f"{arch}.attention.head_count_kv": u32(1)}
        | number_pairs(arch, config, {"attention.layer_norm_rms_epsilon": ("layer_norm_epsilon",)})
    )


def _two(names: str, first: str, second: str) -> Each:
    """Two matrices of as many rows each, stored as one."""

    def make(it: Found) -> Iterator[Named]:
        yield from zip(
            (f"blk.{it.layer}.{name}.weight" for name in (first, second)), halves(it.source), strict=True
        )

    return Each(names=names, make=make)


REFACT = Architecture(
    name="refact",
    classes=("GPTRefactForCausalLM",),
    layout=Layout(
        required={"token_embd.weight": ("vocab_size", "hidden_size"), "output_norm.weight": _NORM}
        | layers(
            {
                "attn_norm.weight": _NORM,
                "attn_q.weight": ("hidden_size", "hidden_size"),
                "attn_k.weight": ("head_dim", "hidden_size"),
                "attn_v.weight": ("head_dim", "hidden_size"),
                "attn_output.weight": ("hidden_size", "hidden_size"),
                "ffn_norm.weight": _NORM,
                "ffn_gate.weight": ("length", "hidden_size"),
                "ffn_up.weight": ("length", "hidden_size"),
                "ffn_down.weight": ("hidden_size", "length"),
            }
        ),
        optional=HEAD,
    ),
    lengths={"length": _refact_length},
    common=_refact_keys,
    rules=(
        _two("transformer.h.{layer}.attn.kv.weight", "attn_k", "attn_v"),
        _two("transformer.h.{layer}.mlp.gate_up_proj.weight", "ffn_gate", "ffn_up"),
    ),
    names={"transformer.h.{layer}.attn.q": "blk.{layer}.attn_q"},
)

ALL = (BAICHUAN, XVERSE, ORION, REFACT)
