"""Functions that tests have another process run: they go there by their names, so they stand in a module.

And which processes of llama.cpp there are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import psutil

from quantrecipe.calibration import CalibrationSettings, Saved, compute_importance
from quantrecipe.importance.to_gguf import encode_gguf
from quantrecipe.texts import read_domain, render

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.engine.language_model import LanguageModel
    from quantrecipe.engine.session import Tell


def with_a_weight_of_zeros(model: LanguageModel, name: str, *, tell: Tell) -> list[NDArray[np.float32]]:
    """Logits before a weight is replaced by zeros, with it replaced, and after it was restored."""
    chunks = np.arange(2 * 64, dtype=np.int32).reshape(2, 64)
    found = [np.stack([it.copy() for it in model.logits(chunks)])]
    weight = model.weights.get(name)
    model.swap(name, np.zeros(0 if weight is None else weight.nbytes, np.uint8))
    found.append(np.stack([it.copy() for it in model.logits(chunks)]))
    model.restore()
    return [*found, np.stack([it.copy() for it in model.logits(chunks)])]


def weights_of(model: LanguageModel, *, tell: Tell) -> list[str]:
    """Names of the weights that the graph uses."""
    return sorted(model.weights)


def answers(
    model: LanguageModel, texts: Sequence[bytes], n: int, side_by_side: int | None, *, tell: Tell
) -> tuple[list[list[int]], list[list[int]]]:
    """The answers to texts, and the tokens of these."""
    prompts = [model.tokenize(text, special=True) for text in texts]
    said = list(model.generate(prompts, n, side_by_side=side_by_side))
    return [answer.tolist() for answer in said], [prompt.tolist() for prompt in prompts]


def logits(model: LanguageModel, chunks: Sequence[Sequence[int]], *, tell: Tell) -> NDArray[np.float32]:
    """The logits of chunks of equal length, float32 (chunks, scored positions, n_vocab)."""
    return np.stack([some.copy() for some in model.logits(np.array(chunks, np.int32))])


def pieces(model: LanguageModel, tokens: Sequence[int], *, tell: Tell) -> tuple[list[bytes], int | None]:
    """The texts of tokens, and what the vocabulary puts before a text."""
    return model.pieces(np.array(tokens, np.int32)), model.first_token


def calibrate(model: str, text: str, out: str) -> tuple[int, bytes]:
    """Compute a matrix, saving sums all the time: the groups that were done before, and what would be written."""
    before = [0]

    def hear(what: object) -> None:
        if isinstance(what, Saved) and what.resumed:
            before[0] = what.groups

    domain = read_domain(text)
    settings = CalibrationSettings(chunks=26, save_every=0.05)
    found = compute_importance(model, [(domain, render(domain, None))], out, settings, hear=hear)
    encoded = b"".join(encode_gguf(found.measurement).pieces())
    found.done()
    return before[0], encoded


def engines() -> set[psutil.Process]:
    """Processes of llama.cpp that were started from here."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "quantrecipe.engine.worker" in process.cmdline():
                found.add(process)
    return found
