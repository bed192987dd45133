"""Jobs for a real engine: long chunks, whole and piece by piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantrecipe.engine import language_model
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell

__all__ = ["whole_and_in_pieces"]


def whole_and_in_pieces(
    model: LanguageModel, text: bytes, n_ctx: int, *, tell: Tell
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """The logits of a text's first chunk, as one array, and as they come where one array would be too large."""
    chunk = model.tokenize(text)[None, :n_ctx]
    [whole] = [it.copy() for it in model.logits(chunk)]
    language_model._BATCH_BYTES = 1
    try:
        return whole, [it.copy() for it in model.logits(chunk)]
    finally:
        language_model._BATCH_BYTES = 256 << 20
