"""Rules: what becomes of the tensors of a checkpoint, before they get their names in the GGUF.

    change("model.layers.{layer}.input_layernorm.weight", lambda it: Add(source=it.source, number=1.0))
    rename("transformer.h.{layer}.{rest:*}", "model.layers.{layer}.{rest}")
    drop("model.layers.{layer}.self_attn.rotary_emb.inv_freq")
    Each(names="…gate_up_proj", make=halves)                       one tensor → several
    First(names="{place:encoder.embed_tokens|shared}.weight", to="shared.weight")  copies of one tensor → the first
    Gather(names=("…q_proj.weight", "…k_proj.weight"), make=join)  several of a layer → others
    Stack(names="…experts.{expert}.{matrix:up|down}_proj.weight")  one of each expert → one for all

Names are templates: "{layer}" and "{expert}" stand for a number, "{x:a|b}" for one of these texts, "{x:*}" for any
text, and "{x}" for one without a dot. What a rule makes has a name that the tensor name map knows, or its name in the
GGUF. A tensor that no rule is for stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import EXPERTS, HEADS, KV_HEADS, head_dim
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Add, Cast, Scale
from quantrecipe.model.source.source import TensorSource, fail
from quantrecipe.model.storable import check_storable

__all__ = [
    "Each",
    "First",
    "Found",
    "Gather",
    "Named",
    "Rule",
    "Stack",
    "change",
    "drop",
    "exact",
    "halves",
    "in_rope_order",
    "language_name",
    "plus_one",
    "query_key_value",
    "rename",
    "scaled",
    "template",
    "tied_output",
]

Named: TypeAlias = tuple[str, TensorSource]
"""A tensor by a name that the tensor name map knows, or by the one that it has in the GGUF."""

_HOLE = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
_NUMBERS = ("layer", "expert")


@cache
def template(names: str) -> re.Pattern[str]:
    """The expression for a template of names, see above."""
    parts, end = [], 0
    for hole in _HOLE.finditer(names):
        parts.append(re.escape(names[end : hole.start()]))
        name, choice = hole[1], hole[2]
        if name in _NUMBERS:
            inner = r"\d{1,9}"  # no name has more, and Python reads only so many
        elif choice is None:
            inner = r"[^.]+"
        elif choice == "*":
            inner = ".+"
        else:
            inner = "|".join(map(re.escape, choice.split("|")))
        parts.append(f"(?P<{name}>{inner})")
        end = hole.end()
    return re.compile("".join(parts) + re.escape(names[end:]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A tensor that a rule is for.

    texts: what stands in the holes of the template, by their names
    """

    name: str
    source: TensorSource
    texts: Mapping[str, str]
    config: Config

    @property
    def layer(self) -> int:
        """The number in "{layer}"."""
        return int(self.texts["layer"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Each:
    """What becomes of each tensor that is called so: others, another one, or nothing."""

    names: str
    make: Callable[[Found], Iterable[Named]]


@dataclass(frozen=True, kw_only=True, slots=True)
class First:
    """Tensors that are copies of one another: the first gets the name `to`, and the others are left out."""

    names: str
    to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gather:
    """Tensors that together become others, which appear where the last of them stands.

    names: templates with "{layer}", or without any hole for tensors that are there once; all have to be there
    make:  their sources, in the order of `names` → what they become; `layer` is -1 where there is none
    """

    names: tuple[str, ...]
    make: Callable[[Config, int, tuple[TensorSource, ...]], Iterable[Named]]

    @property
    def each(self) -> int:
        """How many tensors belong together."""
        return len(self.names)


def _number_of_experts(config: Config) -> int:
    return config.need(*EXPERTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """The matrices of a layer's experts, stored one by one, become one 3-D tensor for each kind of matrix.

        model.layers.0.mlp.experts.0.up_proj.weight  (rows, cols)  ┐
        model.layers.0.mlp.experts.1.up_proj.weight  (rows, cols)  ├▶ (experts, rows, cols)
        …                                                          ┘

    names: template with "{layer}", "{expert}" and "{matrix:a|b}"
    to:    what the stacks are called, with "{layer}" and "{matrix}"; as `names` without the expert, if empty
    count: how many experts there are
    by:    what config.json calls this number, for messages
    """

    names: str
    to: str = ""
    count: Callable[[Config], int] = _number_of_experts
    by: tuple[str, ...] = EXPERTS

    def matrices(self) -> tuple[str, ...]:
        """The kinds of matrices, in the order of the GGUF."""
        hole = next(hole for hole in _HOLE.finditer(self.names) if hole[1] == "matrix")
        return tuple(hole[2].split("|"))

    @property
    def each(self) -> int:
        """How many tensors of each expert belong together."""
        return len(self.matrices())

    def name(self, layer: int, expert: int, matrix: str) -> str:
        """The stored name of one."""
        return _HOLE.sub("{\\1}", self.names).format(layer=layer, expert=expert, matrix=matrix)

    def joined(
        self, layer: int, experts: int, found: Mapping[tuple[int, str], TensorSource], end: str
    ) -> Named:
        """What belongs to the matrices of one kind, such as their ".scale", one after the other."""
        (matrix,) = {matrix for _, matrix in found}
        parts = [found[expert, matrix] for expert in range(experts)]
        return self._called(layer, matrix).removesuffix(".weight") + end, layout.concat(parts)

    def _called(self, layer: int, matrix: str) -> str:
        to = self.to or self.names.replace(".{expert}", "")
        return _HOLE.sub("{\\1}", to).format(layer=layer, matrix=matrix)

    def stacks(
        self, layer: int, experts: int, found: Mapping[tuple[int, str], TensorSource]
    ) -> Iterator[Named]:
        """The stacks of a layer whose experts are all there: (expert, matrix) → content."""
        for matrix in self.matrices():
            parts = [found[expert, matrix] for expert in range(experts)]
            first = parts[0]
            check_storable(first)
            for part in parts:
                if (part.shape, part.dtype) != (first.shape, first.dtype):
                    what = f"is {part.dtype} {part.shape}, unlike {first.stored_name!r}: {first.dtype} {first.shape}"
                    raise ModelError(
                        f"tensor {part.stored_name!r} {what}",
                        "download the model again",
                        file=part.extents[0].path,
                    )
            yield self._called(layer, matrix), layout.stack(parts)


Rule: TypeAlias = Each | First | Gather | Stack


def change(names: str, make: Callable[[Found], TensorSource]) -> Each:
    """The tensor keeps its name, and gets another content."""
    return Each(names=names, make=lambda it: [(it.name, make(it))])


def rename(names: str, to: str) -> Each:
    """The tensor gets another name, in which the holes of `names` may stand."""
    return Each(names=names, make=lambda it: [(to.format(**it.texts), it.source)])


def exact(it: Found) -> TensorSource:
    """The tensor in float32, whatever it is stored in: small ones that choose, or that mix, suffer from rounding."""
    return Cast(source=it.source, gives="F32")


def drop(names: str) -> Each:
    """The tensor is left out."""
    return Each(names=names, make=lambda it: [])


def plus_one(it: Found) -> TensorSource:
    """A norm's weight that is stored without its 1: llama.cpp multiplies by what the GGUF says."""
    return Add(source=it.source, number=1.0)


def scaled(source: TensorSource, *steps: Iterable[tuple[int, float]]) -> TensorSource:
    """A tensor times factors: each step has runs (rows, factor) of its own, and is rounded to float32.

    A matrix comes out as BF16 where it isn't stored as float32, rounded once more, as llama.cpp's converter writes it.
    """
    *first, last = steps
    matrix = len(source.shape) > 1 and source.dtype != "F32"
    for runs in first:
        source = Scale(source=source, runs=tuple(runs))
    return Scale(source=source, runs=tuple(last), gives="BF16" if matrix else "F32")


def halves(source: TensorSource) -> tuple[TensorSource, TensorSource]:
    """The first and the second half of each matrix's rows: gate and up in "gate_up_proj"."""
    if len(source.shape) < 2 or source.rows % 2:
        fail(source, "can't be halved (expected: matrices with an even number of rows)")
    half = source.rows // 2
    return layout.rows(source, 0, half), layout.rows(source, half, 2 * half)


def query_key_value(it: Found) -> tuple[TensorSource, TensorSource, TensorSource]:
    """The rows (or biases) of q, k and v, which stand one after the other."""
    heads, groups = it.config.need(*HEADS), it.config.count(*KV_HEADS) or it.config.need(*HEADS)
    length = head_dim(it.config)
    rows = it.source.shape[0]
    if rows != (heads + 2 * groups) * length:
        what = f"tensor {it.name!r} has {rows} rows (expected: {heads} + 2 · {groups} heads of {length})"
        remedy = "check num_attention_heads, num_key_value_heads and head_dim"
        raise ModelError(what, remedy, file=it.config.path)
    ends = (heads * length, (heads + groups) * length)
    return (
        layout.rows(it.source, 0, ends[0]),
        layout.rows(it.source, ends[0], ends[1]),
        layout.rows(it.source, ends[1], rows),
    )


def in_rope_order(it: Found) -> TensorSource:
    """Rows (or biases) of q and k, which Hugging Face has in another order of rotary pairs than llama.cpp's llama.

    The template's hole "proj" is "k" for keys; all else is taken for queries.
    """
    config = it.config
    counts = (_count(it, HEADS), _count(it, KV_HEADS) if it.texts.get("proj") == "k" else None)
    heads = next((count for count in reversed(counts) if count is not None), 0)
    rows = it.source.shape[0]
    if not heads or rows % (2 * heads):
        what = f"tensor {it.name!r} has {rows} rows, which don't divide among {heads} heads of even length"
        raise ModelError(what, "check num_attention_heads and num_key_value_heads", file=config.path)
    return layout.rope_order(it.source, heads)


def _count(it: Found, names: tuple[str, ...]) -> int | None:
    """How many heads there are, in the tensor's layer where they are counted layer by layer."""
    config = it.config
    return config.at(it.layer, *names) if isinstance(config.find(*names), list) else config.count(*names)


_OTHER_TOWERS = (
    "mlp", "vit.", "vpm.", "siglip2.", "conformer.", "merger.", "resampler.", "sound_encoder.", "sound_projection.",
    "speech_embeddings.",
)  # fmt: skip
_OF_OTHER_TOWERS = (
    "visual.", "vision.", "audio.", "talker.", "vision_", "audio_", "token2wav.", "code2wav.", "projector.",
    "pre_mm_projector_norm", "image_newline", "view_seperator", "patch_embed", "patch_merger.", "patch_merge_mlp.",
    "model.connector.",
)  # fmt: skip
"""What names of towers for pictures and sound begin with, and what they contain. Source: conversion/base.py"""


def language_name(name: str) -> str | None:
    """A tensor's name without "language_model."; None for those of towers for pictures and sound."""
    if name.startswith(_OTHER_TOWERS) or any(part in name for part in _OF_OTHER_TOWERS):
        return None
    if name.endswith("e_score_correction_bias"):
        name = name.removesuffix("_bias") + ".bias"
    return name.replace("language_model.", "")


def tied_output(config: Config, name: str) -> bool:
    """An output that is stored although the embedding serves as it; see `Architecture.leaves_out`."""
    return name.endswith("lm_head.weight") and config.flag("tie_word_embeddings") is True
