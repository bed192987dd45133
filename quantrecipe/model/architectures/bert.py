"""BERT and DistilBERT: encoders with norms behind attention and feed-forward, for embeddings and reranking.

The vocabulary is WordPiece. Embeddings of places are added to those of tokens, and BERT's of which of two texts a token
belongs to. Heads for masked language modelling and the pooler are left out, as the converter does it: what llama.cpp
computes are embeddings, and scores of a classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

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
from quantrecipe.model.architectures.rules import language_name
from quantrecipe.model.pairs import Pairs, boolean, f32, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = [
    "ALL",
    "ATTENTION",
    "BERT",
    "BIASES",
    "EMBEDDING",
    "NO_GGUF",
    "POST_NORM",
    "QKV",
    "QKV_BIASES",
    "TOKEN_TYPES",
    "bert_name",
    "encoder_pairs",
    "norms",
    "refuse_activation",
    "token_types",
    "token_types_first",
    "token_types_in_unigram",
]

NO_GGUF = "no GGUF of this architecture can hold the model"
_TYPES = "tokenizer.ggml.token_type_count"
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
BIASES: Shapes = layers({"attn_output.bias": ("hidden_size",)}) | NO_GATE_BIASES


def _layers_where(*, fused: bool) -> Callable[[Config], Iterable[int]]:
    """All layers, of a checkpoint whose q, k and v are one matrix or aren't."""

    def where(config: Config) -> Iterable[int]:
        same = any(".Wqkv." in name for name in config.stored) is fused
        return range(config.need(*LAYERS)) if same else ()

    return where


ATTENTION = (
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


def token_types(config: Config) -> Pairs:
    """How many texts a token can belong to. llama.cpp doesn't load a model with none."""
    said = "type_vocab_size" in config.values
    return {_TYPES: u32(config.need("type_vocab_size") if said else 1)}


def token_types_first(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys of WordPiece models."""
    return token_types(config) | pairs


def token_types_in_unigram(config: Config, pairs: Pairs) -> Pairs:
    """The tokenizer's keys of Unigram models."""
    made: Pairs = {}
    for key, value in pairs.items():
        made[key] = value
        if key == "tokenizer.ggml.add_space_prefix":
            made |= token_types(config)
    return made | token_types(config)


def refuse_activation(config: Config) -> str | None:
    """ModelError for a model that was trained with another function: llama.cpp has one for each architecture."""
    for name in ("hidden_act", "activation"):
        if not str(config.values.get(name, "gelu")).startswith("gelu"):
            what = f"says {name}: {shown(config.values[name])}, but llama.cpp computes GELU for this architecture"
            config.fail(what, NO_GGUF)
    return None


def _refuse(config: Config) -> str | None:
    kind = config.find("position_embedding_type")
    if kind not in (None, "absolute"):
        what = f"says position_embedding_type: {shown(kind)}, but llama.cpp has a table of places for this architecture"
        config.fail(what, NO_GGUF)
    return refuse_activation(config)


BERT = Architecture(
    name="bert",
    classes=("BertForMaskedLM", "BertForSequenceClassification", "BertModel"),
    layout=Layout(
        required=EMBEDDING
        | {"position_embd.weight": ("max_position_embeddings", "hidden_size")}
        | POST_NORM
        | NO_GATE,
        optional=TOKEN_TYPES | CLASSIFIER | BIASES,
        parts=ATTENTION,
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


ALL = (BERT, DISTILBERT, CAMEMBERT)
