"""Architecture: how a family of models is called and stored on Hugging Face, and what a GGUF says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.experts import ExpertNames
from quantrecipe.model.architectures.layout import Layout
from quantrecipe.model.pairs import Pairs

__all__ = ["Architecture", "as_many_as_heads", "no_reason"]


def _nothing(config: Config) -> Pairs:
    return {}


def _as_it_is(config: Config, pairs: Pairs) -> Pairs:
    return pairs


def _no_tensors(config: Config) -> dict[str, bytes]:
    return {}


def no_reason(config: Config) -> str | None:
    """Every model of this architecture can be converted."""
    return None


def as_many_as_heads(values: Mapping[str, Any]) -> Any:
    """The number of key-value heads of a model without grouped-query attention."""
    return values.get("num_attention_heads")


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Data, and a few small functions for what data can't say. Everything has a default but the first four.

    name:          llama.cpp's name of it: `general.architecture`, the prefix of its keys, its tensor name map
    classes:       names under `architectures` in config.json
    layout:        the tensors that llama.cpp loads, and their shapes
    defaults:      what transformers assumes of a hyper-parameter that config.json doesn't give
    default_theta: the same for the base frequency of the rotary embedding
    derive:        hyper-parameters that transformers works out from others, where they are missing or null
    rotary:        True where the rows of q and k lie in Hugging Face's rotary order, and are to be rearranged
    experts:       how the matrices of experts are called, None for models without
    pairs:         the keys that this architecture has on top of the common ones
    tokenizer:     the tokenizer's keys, with what this architecture's have besides
    computed:      float32 tensors (1-D, little-endian bytes) that come from the configuration, by GGUF name
    refuse:        why a model that looks like one of these can't be converted, None where it can
    """

    name: str
    classes: tuple[str, ...]
    layout: Layout
    defaults: Mapping[str, Any]
    default_theta: float = 10_000.0
    derive: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    rotary: bool = False
    experts: ExpertNames | None = None
    pairs: Callable[[Config], Pairs] = _nothing
    tokenizer: Callable[[Config, Pairs], Pairs] = _as_it_is
    computed: Callable[[Config], Mapping[str, bytes]] = _no_tensors
    refuse: Callable[[Config], str | None] = no_reason
