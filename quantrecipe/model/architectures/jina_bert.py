"""Jina Embeddings v2: BERT with a bias by distance (ALiBi) instead of places, and up and gate in one matrix.

The model for code has norms of q and k, and one more behind attention. Version 3 is in `roberta`, 5 in `modern_bert`.
"""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.bert import (
    BERT,
    EMBEDDING,
    NO_GGUF,
    POST_NORM,
    QKV,
    QKV_BIASES,
    TOKEN_TYPES,
    encoder_pairs,
    norms,
    token_types_first,
)
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import FEED_FORWARD
from quantrecipe.model.architectures.layout import Layout, layers
from quantrecipe.model.pairs import Pairs, text, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_PRE = "tokenizer.ggml.pre"
_PRE_OF_SPANISH, _PRE_OF_CODE = "jina-v2-es", "jina-v2-code"


def _up_rows(config: Config, layer: int) -> int:
    """Rows of "up", which the gate's follow where both are one matrix."""
    gated = any(".gated_layers." in name or ".up_gated_layer." in name for name in config.stored)
    return config.need(*FEED_FORWARD) * (2 if gated else 1)


def _refuse_jina(config: Config) -> str | None:
    if (kind := str(config.find("feed_forward_type"))) == "reglu":
        what = f"says feed_forward_type: {shown(kind)}, but llama.cpp gates by GELU for this architecture"
        config.fail(what, NO_GGUF)
    return None


def _jina_tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys; the converter takes it for granted that others than BERT's have two kinds of texts."""
    if pairs["tokenizer.ggml.model"].decode() == "bert":
        return token_types_first(config, pairs)
    pairs = pairs | {"tokenizer.ggml.token_type_count": u32(2)}
    # of the models whose vocabularies have these rules, only the one for code has norms of q and k
    for_code = any(".layer_norm_q." in name for name in config.stored)
    if for_code and pairs[_PRE].decode() == _PRE_OF_SPANISH:
        pairs[_PRE] = text(_PRE_OF_CODE)
    return pairs


JINA_BERT_V2 = replace(
    BERT,
    name="jina-bert-v2",
    classes=("JinaBertForMaskedLM", "JinaBertModel"),
    layout=Layout(
        required=EMBEDDING
        | TOKEN_TYPES
        | POST_NORM
        | QKV
        | layers(
            {
                "attn_output.bias": ("hidden_size",),
                "ffn_up.weight": ("up", "hidden_size"),
                "ffn_down.weight": ("hidden_size", "intermediate_size"),
                "ffn_down.bias": ("hidden_size",),
            }
        ),
        optional={
            **QKV_BIASES,
            **layers(norms("attn_q_norm", "attn_k_norm", "attn_norm_2")),
            **layers({"ffn_gate.weight": ("intermediate_size", "hidden_size"), "ffn_up.bias": ("up",)}),
            "cls.weight": ("1", "hidden_size"),
            "cls.bias": ("1",),
        },
    ),
    lengths={"up": _up_rows},
    refuse=_refuse_jina,
    pairs=lambda config: encoder_pairs("jina-bert-v2", config),
    rules=(),
    vocabulary=Vocabulary(
        kinds=("wordpiece", "whitespace", "bpe"),
        pre=("jina-v2-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "jina-v1-en"),
    ),
    tokenizer=_jina_tokenizer,
)

ALL = (JINA_BERT_V2,)
