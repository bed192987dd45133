"""Held-out text without llama.cpp: what `quantrecipe.refine.trial` would be told of files, chosen by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.evaluate import Positions, Reference, Text, read_reference
from quantrecipe.evaluate.compact import compact
from quantrecipe.evaluate.reference import ScoredText, write_reference

__all__ = ["SCORED", "Figures"]

N_CTX, SCORED, VOCABULARY = 32, 15, 20


class Figures:
    """What llama.cpp would say: mean divergences by the name of the file."""

    def __init__(self, chunks: int = 40) -> None:
        self.chunks = chunks
        self.means = {"encoded.gguf": 0.5, "plain.gguf": 1.0}
        self.scored = list[str]()

    def make_reference(self, path: Path, texts: list[Text], out: Path, **_: Any) -> Reference:
        rng = np.random.default_rng(1)
        tokens = rng.integers(0, VOCABULARY, (self.chunks, N_CTX)).astype(np.int32)
        reference = Reference(
            path=out,
            model=path.name,
            key="key",
            n_ctx=N_CTX,
            n_vocab=VOCABULARY,
            vocabulary="",
            tail=0.003,
            texts=tuple(ScoredText(name=it.name, digest=it.digest, chunks=self.chunks) for it in texts),
            tokens=tokens,
        )
        logits = rng.standard_normal((self.chunks, SCORED, VOCABULARY)).astype(np.float32)
        write_reference(reference, [compact(some, tokens[0, -SCORED:]) for some in logits])
        return read_reference(out)

    def score(self, path: Path, reference: Reference, **_: Any) -> Positions:
        self.scored.append(path.name)
        rng = np.random.default_rng(len(self.scored))
        ones = np.ones(self.chunks * SCORED)
        spread = rng.exponential(1, len(ones))
        return Positions(
            cost=ones, reference_cost=ones, divergence=self.means[path.name] * spread, agrees=ones
        )
