"""Tokenizers: a folder's vocabulary, of any kind that llama.cpp knows, becomes the GGUF's."""

from __future__ import annotations

from quantrecipe.model.tokenizer.kinds import Vocabulary
from quantrecipe.model.tokenizer.vocabulary import tokenizer_pairs

__all__ = ["Vocabulary", "tokenizer_pairs"]
