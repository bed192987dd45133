"""BERT and what was made after it: encoders with norms behind attention and feed-forward, for embeddings and reranking.

    BERT, DistilBERT     WordPiece; embeddings of places, and of which of two texts a token belongs to
    RoBERTa              byte-level BPE; places are counted from the number behind the padding token's
    XLM-RoBERTa          the same with a Unigram vocabulary: BGE-M3, E5, and Jina's rerankers, whose q, k and v are one
    Jina Embeddings v3   XLM-RoBERTa with a rotary embedding instead of places

Heads for masked language modelling and the pooler are left out, as the converter does it: what llama.cpp computes are
embeddings, and scores of a classifier. Of Jina Embeddings v3 the GGUF holds the base model; its adapters for tasks
(LoRA) are files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.classifier import (
    CLASSIFIER,
    CLASSIFIER_LENGTHS,
    CLASSIFIER_RULES,
    label_pairs,
)
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import LAYERS, common_pairs
from quantrecipe.model.architectures.layout import NO_GATE, NO_GATE_BIASES, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.pooling import pooling_pairs
from quantrecipe.model.architectures.rules import Found, change, language_name
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = [
    "ALL",
    "BERT",
    "EMBEDDING",
    "POST_NORM",
    "QKV",
    "QKV_BIASES",
    "TOKEN_TYPES",
    "bert_name",
    "encoder_pairs",
    "norms",
    "token_types_first",
    "token_types_in_unigram",
]

_TYPES = "tokenizer.ggml.token_type_count"
_PLACES = "embeddings.position_embeddings.weight"
_LEFT_OUT = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
_HEADS = ("cls.predictions", "cls.seq_relationship")


def norms(*names: str) -> Shapes:
    """Weights and biases of LayerNorms."""
    return {f"{name}.{end}": ("hidden_size",) for name in names for end in ("weight", "bias")}


EMBEDDING: Shapes = {"token_embd.weight": ("vocab_size", "hidden_size"), **norms("token_embd_norm")}
TOKEN_TYPES: Shapes = {"token_types.weight": ("type_vocab_size", "hidden_size")}
POST_NORM: Shapes = layers(
    {"attn_output.weight": ("hidden_size", "hidden_size"), **norms("attn_output_norm", "layer_output_norm")}
)
QKV: Shapes = layers({f"attn_{name}.weight": ("hidden_size", "hidden_size") for name in "qkv"})
QKV_BIASES: Shapes = layers({f"attn_{name}.bias": ("hidden_size",) for name in "qkv"})
_FUSED: Shapes = layers({"attn_qkv.weight": ("3 · hidden_size", "hidden_size")})
_FUSED_BIAS: Shapes = layers({"attn_qkv.bias": ("3 · hidden_size",)})
_BIASES: Shapes = layers({"attn_output.bias": ("hidden_size",)}) | NO_GATE_BIASES


def _layers_where(*, fused: bool) -> Callable[[Config], Iterable[int]]:
    """All layers, of a checkpoint whose q, k and v are one matrix or aren't."""

    def where(config: Config) -> Iterable[int]:
        same = any(".Wqkv." in name for name in config.stored) is fused
        return range(config.need(*LAYERS)) if same else ()

    return where


_ATTENTION = (
    Part(where=_layers_where(fused=False), required=QKV, optional=QKV_BIASES),
    Part(where=_layers_where(fused=True), required=_FUSED, optional=_FUSED_BIAS),
)


def bert_name(stored: str, *prefixes: str) -> str | None:
    """The name without what a class for a task puts in front; None for what embeddings don't need."""
    name = stored
    for prefix in (*prefixes, "bert."):
        name = name.removeprefix(prefix)
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):  # checkpoints of TensorFlow
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return None if name in _LEFT_OUT or name.startswith(_HEADS) else language_name(name)


def encoder_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of all encoders: each token sees all others, and their vectors become one."""
    pairs: Pairs = {f"{arch}.attention.causal": boolean(False)}
    return pairs | pooling_pairs(arch, config) | label_pairs(arch, config)


def _types(config: Config) -> Pairs:
    """How many texts a token can belong to. llama.cpp doesn't load a model with none."""
    said = "type_vocab_size" in config.values
    return {_TYPES: u32(config.need("type_vocab_size") if said else 1)}


def token_types_first(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys of WordPiece models."""
    return _types(config) | pairs


def _token_types_last(config: Config, pairs: Pairs) -> Pairs:
    return pairs | _types(config)


def token_types_in_unigram(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys of Unigram models."""
    made: Pairs = {}
    for key, value in pairs.items():
        made[key] = value
        if key == "tokenizer.ggml.add_space_prefix":
            made |= _types(config)
    return made | _types(config)


def _refuse(config: Config) -> str | None:
    """What would be computed otherwise than the model was trained."""
    for name in ("hidden_act", "activation"):
        if not str(config.values.get(name, "gelu")).startswith("gelu"):
            return f"says {name}: {shown(config.values[name])}, but llama.cpp computes GELU for this architecture"
    if "relative" in str(config.find("position_embedding_type")):
        kind = shown(config.find("position_embedding_type"))
        return (
            f"says position_embedding_type: {kind}, but llama.cpp has absolute places for this architecture"
        )
    return None


BERT = Architecture(
    name="bert",
    classes=("BertForMaskedLM", "BertForSequenceClassification", "BertModel"),
    layout=Layout(
        required=EMBEDDING
        | {"position_embd.weight": ("max_position_embeddings", "hidden_size")}
        | POST_NORM
        | NO_GATE,
        optional=TOKEN_TYPES | CLASSIFIER | _BIASES,
        parts=_ATTENTION,
    ),
    refuse=_refuse,
    default_theta=None,
    pairs=lambda config: encoder_pairs("bert", config),
    rename=bert_name,
    rules=CLASSIFIER_RULES,
    lengths=CLASSIFIER_LENGTHS,
    vocabulary=Vocabulary(kinds=("wordpiece",)),
    tokenizer=token_types_first,
)


def _distilbert_common(arch: str, config: Config) -> Pairs:
    """Make the common keys behind the norms' epsilon, which stands in DistilBERT's code, not in config.json."""
    return {f"{arch}.attention.layer_norm_epsilon": f32(1e-12)} | common_pairs(arch, config, epsilon=False)


def _distilbert_name(stored: str) -> str | None:
    name = bert_name(stored, "distilbert.")
    return None if name is None or name.startswith("vocab_") else name


DISTILBERT = replace(
    BERT,
    classes=("DistilBertForMaskedLM", "DistilBertForSequenceClassification", "DistilBertModel"),
    common=_distilbert_common,
    rename=_distilbert_name,
)


def _refuse_camembert(config: Config) -> str | None:
    what = (
        "is of a CamemBERT, whose Unigram vocabulary and whose places llama.cpp's converter takes for BERT's"
    )
    config.fail(what, "no GGUF that it makes gives the model's embeddings: use a model on XLM-RoBERTa")


CAMEMBERT = replace(BERT, classes=("CamembertModel",), refuse=_refuse_camembert)


def _first_place(values: Mapping[str, Any]) -> int:
    """The number of a text's first place: padding has that of its token, and what is before isn't used."""
    padding = values.get("pad_token_id")
    return padding + 1 if isinstance(padding, int) and 0 <= padding < 2**31 else 0


def _places_of_text(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """As many places as a text can have, which are fewer than the embeddings."""
    places = values.get("max_position_embeddings")
    if not isinstance(places, int) or isinstance(places, bool):
        return values
    return {**values, "max_position_embeddings": max(places - _first_place(values), 0)}


def _cut(it: Found) -> TensorSource:
    start, count = _first_place(it.config.values), it.source.shape[0]
    if start >= count:
        it.config.fail(f"says pad_token_id: {start - 1}, but there are only {count} embeddings of places")
    return layout.rows(it.source, start, count)


ROBERTA = replace(
    BERT,
    classes=("RobertaForSequenceClassification", "RobertaModel"),
    adjust=_places_of_text,
    rename=lambda stored: bert_name(stored, "roberta."),
    rules=(change(_PLACES, _cut), *CLASSIFIER_RULES),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("roberta-bpe",)),
    tokenizer=_token_types_last,
)


def _xlm_roberta_name(stored: str) -> str | None:
    """The name of a weight that adapters change is spread over others: the weight itself is "original"."""
    if stored.endswith((".0.lora_A", ".0.lora_B")):
        return None
    name = stored
    if ".parametrizations." in name:
        name = name.replace(".parametrizations.", ".").removesuffix(".original")
    return bert_name(name, "roberta.")


XLM_ROBERTA = replace(
    ROBERTA,
    classes=("XLMRobertaForSequenceClassification", "XLMRobertaModel"),
    rename=_xlm_roberta_name,
    vocabulary=Vocabulary(kinds=("unigram",)),
    tokenizer=token_types_in_unigram,
)

JINA_BERT_V3 = replace(
    XLM_ROBERTA,
    name="jina-bert-v3",
    applies=lambda config: bool(config.find("lora_adaptations")),
    layout=Layout(required=EMBEDDING | POST_NORM | NO_GATE, optional=TOKEN_TYPES | _BIASES, parts=_ATTENTION),
    pairs=lambda config: encoder_pairs("jina-bert-v3", config),
)

ALL = (BERT, DISTILBERT, CAMEMBERT, ROBERTA, JINA_BERT_V3, XLM_ROBERTA)
