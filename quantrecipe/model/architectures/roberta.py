"""RoBERTa and XLM-RoBERTa: BERT with other vocabularies, and places that are counted from behind the padding's.

    RoBERTa              byte-level BPE
    XLM-RoBERTa          Unigram: BGE-M3, E5, and Jina's rerankers, whose q, k and v are one matrix
    Jina Embeddings v3   XLM-RoBERTa with a rotary embedding instead of places

Of Jina Embeddings v3 the GGUF holds the base model: its adapters for tasks (LoRA) would be files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantrecipe.model.architectures.bert import (
    ATTENTION,
    BERT,
    BIASES,
    EMBEDDING,
    POST_NORM,
    TOKEN_TYPES,
    bert_name,
    encoder_pairs,
    refuse_activation,
    token_types,
    token_types_in_unigram,
)
from quantrecipe.model.architectures.classifier import CLASSIFIER_RULES
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import NO_GATE, Layout
from quantrecipe.model.architectures.rules import Found, change
from quantrecipe.model.pairs import Pairs
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_PLACES = "embeddings.position_embeddings.weight"


def _token_types_last(config: Config, pairs: Pairs) -> Pairs:
    return pairs | token_types(config)


def _first_place(values: Mapping[str, Any]) -> int:
    """The number of a text's first place: padding has that of its token, and what is before isn't used."""
    padding = values.get("pad_token_id")
    return padding + 1 if isinstance(padding, int) and padding >= 0 else 0


def _places_of_text(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """As many places as a text can have, which are fewer than the embeddings."""
    places = values.get("max_position_embeddings")
    if not isinstance(places, int):
        return values
    return {**values, "max_position_embeddings": max(places - _first_place(values), 0)}


def _cut(it: Found) -> TensorSource:
    it.config.count("pad_token_id")  # ModelError for one that is no number
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
    """The name without what adapters add: they are left out, and a weight that they change is called "original"."""
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
    refuse=refuse_activation,
    layout=Layout(required=EMBEDDING | POST_NORM | NO_GATE, optional=TOKEN_TYPES | BIASES, parts=ATTENTION),
    pairs=lambda config: encoder_pairs("jina-bert-v3", config),
)

ALL = (ROBERTA, JINA_BERT_V3, XLM_ROBERTA)
