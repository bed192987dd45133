"""MosaicML's MPT: ALiBi, q, k and v in one matrix, and as a rule no biases at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.gpt2 import four_times
from quantrecipe.model.architectures.hyperparameters import LAYERS, count_pairs, number_pairs
from quantrecipe.model.architectures.layout import (
    FEED_FORWARD_NORM,
    FRAME,
    FUSED,
    FUSED_BIASES,
    HEAD,
    NO_GATE,
    NO_GATE_BIASES,
    NORM_BIASES,
    Layout,
    layers,
)
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_HIDDEN = "hidden_size"
_EPSILON = 1e-5  # conversion/mpt.py: it isn't in config.json


def _values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hyper-parameters by the names that others have for them; those of attention are nested."""
    given = values.get("attn_config")
    attn: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    named = {name: attn.get(name) for name in ("clip_qkv", "alibi", "alibi_bias_max")}
    return {
        **values,
        **named,
        _HIDDEN: values.get("d_model"),
        "num_attention_heads": values.get("n_heads"),
        "num_key_value_heads": attn.get("kv_n_heads"),
    }


def _common(arch: str, config: Config) -> Pairs:
    bias = config.number("alibi_bias_max") if config.flag("alibi") else 0.0
    if bias is None:
        config.fail("has no alibi_bias_max in attn_config (expected: a number)")
    kv_heads = {"attention.head_count_kv": ("num_key_value_heads",)}
    return {
        f"{arch}.context_length": u32(config.need("max_seq_len")),
        f"{arch}.embedding_length": u32(config.need(_HIDDEN)),
        **count_pairs(arch, config, {"block_count": LAYERS}),
        f"{arch}.feed_forward_length": u32(four_times(config)),
        f"{arch}.attention.head_count": u32(config.need("num_attention_heads")),
        **count_pairs(arch, config, kv_heads if config.count("num_key_value_heads") else {}),
        f"{arch}.attention.layer_norm_epsilon": f32(_EPSILON),
        **number_pairs(arch, config, {"attention.clamp_kqv": ("clip_qkv",)}),
        f"{arch}.attention.max_alibi_bias": f32(bias),
    }


def _tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """SEA-LION is an MPT with a vocabulary of SentencePiece, and with tokens that it doesn't name."""
    if pairs["tokenizer.ggml.model"].decode() != "llama":
        return pairs
    return pairs | {
        "tokenizer.ggml.add_bos_token": boolean(False),
        "tokenizer.ggml.padding_token_id": u32(3),
        "tokenizer.ggml.eos_token_id": u32(1),
        "tokenizer.ggml.unknown_token_id": u32(0),
    }


MPT = Architecture(
    name="mpt",
    classes=("MPTForCausalLM",),
    layout=Layout(
        required=FRAME | FEED_FORWARD_NORM | FUSED | NO_GATE,
        optional={
            **HEAD,
            **NORM_BIASES,
            **FUSED_BIASES,
            **NO_GATE_BIASES,
            **layers(
                {f"attn_{name}_norm.{end}": (_HIDDEN,) for name in ("q", "k") for end in ("weight", "bias")}
            ),
            "position_embd.weight": ("max_seq_len", _HIDDEN),
        },
    ),
    file_type=False,
    adjust=_values,
    common=_common,
    lengths={"intermediate_size": four_times},
    vocabulary=Vocabulary(kinds=("bpe", "sentencepiece"), pre=("mpt", "olmo")),
    tokenizer=_tokenizer,
)

ALL = (MPT,)
