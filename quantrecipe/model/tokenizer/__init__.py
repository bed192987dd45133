"""Tokenizers: a folder's tokenizer.json becomes the GGUF's vocabulary."""

from __future__ import annotations

from quantrecipe.model.tokenizer.vocabulary import tokenizer_pairs

__all__ = ["tokenizer_pairs"]
