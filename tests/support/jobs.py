"""Functions that tests have a session's worker run: they have to be found there by their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantrecipe.engine.language_model import LanguageModel

__all__ = ["answers", "logits", "pieces"]


def answers(
    model: LanguageModel, texts: Sequence[bytes], n: int, side_by_side: int | None, *, tell: object
) -> tuple[list[list[int]], list[list[int]]]:
    """The answers to texts, and the tokens of these."""
    prompts = [model.tokenize(text, special=True) for text in texts]
    said = list(model.generate(prompts, n, side_by_side=side_by_side))
    return [answer.tolist() for answer in said], [prompt.tolist() for prompt in prompts]


def logits(model: LanguageModel, chunks: Sequence[Sequence[int]], *, tell: object) -> NDArray[np.float32]:
    """The logits of chunks of equal length, float32 (chunks, scored positions, n_vocab)."""
    return np.stack([some.copy() for some in model.logits(np.array(chunks, np.int32))])


def pieces(model: LanguageModel, tokens: Sequence[int], *, tell: object) -> tuple[list[bytes], int | None]:
    """The texts of tokens, and what the vocabulary puts before a text."""
    return model.pieces(np.array(tokens, np.int32)), model.first_token
