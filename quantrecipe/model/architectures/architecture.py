"""Architecture: how a family of models is called and stored on Hugging Face, and what a GGUF says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, common_pairs
from quantrecipe.model.architectures.layout import Layout, Length
from quantrecipe.model.architectures.rules import Rule, language_name
from quantrecipe.model.pairs import Pairs
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["PARTS", "Architecture", "Computed", "as_many_as_heads", "no_reason"]

PARTS = ("model", "mmproj", "mtp")
"""What a folder may hold besides the language model, each a GGUF of its own: a projector, a draft head."""


_USUAL = Vocabulary()


def _nothing(config: Config) -> Pairs:
    return {}


def _unchanged(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return values


def _as_it_is(config: Config, pairs: Pairs) -> Pairs:
    return pairs


Computed: TypeAlias = bytes | NDArray[np.float32]


def _no_tensors(config: Config) -> dict[str, Computed]:
    return {}


def _all_layers(config: Config) -> int:
    return config.need(*LAYERS)


def _always(config: Config) -> bool:
    return True


def _as_named(config: Config, name: str) -> str:
    return name


def _none(config: Config, name: str) -> bool:
    return False


def no_reason(config: Config) -> str | None:
    """Every model of this architecture can be converted."""
    return None


def as_many_as_heads(values: Mapping[str, Any]) -> Any:
    """The number of key-value heads of a model without grouped-query attention."""
    return values.get("num_attention_heads")


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Data, and a few small functions for what data can't say. Everything has a default but the first three.

    What it is:
    name:          llama.cpp's name of it: `general.architecture`, the prefix of its keys
    classes:       names under `architectures` in config.json
    layout:        the tensors that llama.cpp loads, and their shapes
    part:          what of the folder it converts, one of PARTS
    applies:       False for a configuration that another architecture of the same class is for
    refuse:        why a model that looks like one of these can't be converted, None where it can

    Its hyper-parameters, by config.json's names, nested ones brought to the root:
    defaults:      what transformers assumes of a hyper-parameter that config.json doesn't give
    default_theta: the same for the base frequency of the rotary embedding; None where it is left to llama.cpp
    as_stated:     True where the converter reads config.json itself, without what transformers assumes
    derive:        hyper-parameters that transformers works out from others, where they are missing or null
    adjust:        all hyper-parameters, as the GGUF is to see them
    layers:        how many layers the GGUF has, those of draft heads included
    common:        the keys that all architectures have; for one that has few of them, a function of its own
    pairs:         the keys that this architecture has on top of these
    early:         keys that the converter writes before all others, since they come up with its computed tensors
    file_type:     False where the converter doesn't write `general.file_type`

    Its tensors:
    rename:        a stored name → the name that the rules see; None leaves the tensor out
    draft_name:    the same once more, where it depends on the number of layers: "mtp.layers.0." → "model.layers.48."
    leaves_out:    tensors that are left out for what the configuration says, by the names that the rules see
    rules:         what is done to tensors, see `rules`; the first rule that matches a name counts
    names:         names that gguf's tensor name map lacks → names of the GGUF, "{layer}" in both, without ".weight"
    names_of:      the architecture whose tensor name map is taken, where gguf has none of this name
    lengths:       lengths that its layout names, where config.json has no hyper-parameter of this name
    computed:      float32 tensors that come from the configuration, by GGUF name; bytes (little-endian) are a vector

    Its vocabulary:
    vocabulary:    how the tokenizer's files are read
    tokenizer:     the tokenizer's keys, with what this architecture's have besides
    """

    name: str
    classes: tuple[str, ...]
    layout: Layout
    part: str = "model"
    applies: Callable[[Config], bool] = _always
    refuse: Callable[[Config], str | None] = no_reason

    defaults: Mapping[str, Any] = field(default_factory=dict)
    default_theta: float | None = 10_000.0
    as_stated: bool = False
    derive: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    adjust: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _unchanged
    layers: Callable[[Config], int] = _all_layers
    common: Callable[[str, Config], Pairs] = common_pairs
    pairs: Callable[[Config], Pairs] = _nothing
    early: Callable[[Config], Pairs] = _nothing
    file_type: bool = True

    rename: Callable[[str], str | None] = language_name
    draft_name: Callable[[Config, str], str] = _as_named
    leaves_out: Callable[[Config, str], bool] = _none
    rules: tuple[Rule, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    names_of: str = ""
    lengths: Mapping[str, Length] = field(default_factory=dict)
    computed: Callable[[Config], Mapping[str, Computed]] = _no_tensors

    vocabulary: Vocabulary = _USUAL
    tokenizer: Callable[[Config, Pairs], Pairs] = _as_it_is
