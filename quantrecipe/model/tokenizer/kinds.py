"""Vocabulary: which of a folder's tokenizer files an architecture's vocabulary is read from, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Vocabulary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """How an architecture's vocabulary is read, and what llama.cpp calls it.

    kinds: readers, in order of preference: the first for which the folder has files is taken
    model: `tokenizer.ggml.model`, where it isn't the reader's own
    pre:   the names that the pre-tokenizer goes by here, where its rules have several names
    """

    kinds: tuple[str, ...] = ("sentencepiece", "bpe")
    model: str | None = None
    pre: tuple[str, ...] = ()
