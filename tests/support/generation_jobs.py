"""What tests of generation have the engine's process do: it goes there by its name, so it stands in a module."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantrecipe.engine.generation import Sampler, likeliest
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell

__all__ = ["generated", "likeliest_after", "texts_of"]

Tokens = NDArray[np.int32]


def generated(
    model: LanguageModel, prompts: list[Tokens], n: int, keep_shape: bool, min_p: float | None, *, tell: Tell
) -> list[Tokens]:
    """Answers: the likeliest tokens, or drawn from those above min_p."""
    choose = likeliest if min_p is None else Sampler(1.0, min_p, np.random.default_rng)
    return list(model.generate(prompts, n, side_by_side=2, choose=choose, keep_shape=keep_shape))


def likeliest_after(model: LanguageModel, chunk: Tokens, *, tell: Tell) -> Tokens:
    """The likeliest token after each position of the second half of a chunk, which is run as a whole."""
    [logits] = model.logits(chunk[None])
    found: Tokens = logits.argmax(axis=1).astype(np.int32)
    return found


def texts_of(model: LanguageModel, text: bytes, *, tell: Tell) -> list[bytes]:
    """The texts of the tokens of a text."""
    return model.pieces(model.tokenize(text))
