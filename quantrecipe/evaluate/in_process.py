"""What a session's process does for an evaluation: a reference from a model and texts; positions beside a reference.

What users call is in `requests`, which has this run where the model is open: see `quantrecipe.engine.session`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import CompactRows, compact
from quantrecipe.evaluate.positions import Positions, compare
from quantrecipe.evaluate.reference import Reference, ScoredText, read_reference, write_reference
from quantrecipe.evaluate.texts import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SMALLEST_CONTEXT", "run_model", "run_reference"]

SMALLEST_CONTEXT = 16
"""Tokens; half of a chunk is context."""

_BLOCK = 1 << 20
"""Logits."""


def run_reference(
    engine: LanguageModel,
    texts: Sequence[Text],
    out: Path,
    n_ctx: int,
    chunks: int | None,
    tail: float,
    key: str,
    *,
    tell: Tell,
) -> None:
    """Write what a model says about the texts. EvaluationError for a text without a whole chunk.

    tell: after every chunk, chunks done and chunks in all
    """
    parts = [_chunks(engine, text, n_ctx, chunks) for text in texts]
    tokens = np.concatenate(parts)
    reference = Reference(
        path=out,
        model=engine.path.name,
        key=key,
        n_ctx=n_ctx,
        n_vocab=engine.n_vocab,
        vocabulary=engine.vocabulary(tokens),
        tail=tail,
        texts=tuple(
            ScoredText(name=text.name, digest=text.digest, chunks=len(part))
            for text, part in zip(texts, parts, strict=True)
        ),
        tokens=tokens,
    )

    def records(pool: Executor) -> Iterator[CompactRows]:
        for number, logits in enumerate(engine.logits(tokens)):
            targets, blocks = reference.targets[number], _blocks(_finite(logits, engine))
            parts = pool.map(
                compact,
                (logits[block] for block in blocks),
                (targets[block] for block in blocks),
                repeat(tail),
            )
            yield CompactRows.join(list(parts))
            tell((number + 1, len(tokens)))

    with ThreadPoolExecutor(engine.threads) as pool:
        write_reference(reference, records(pool))


def run_model(engine: LanguageModel, path: Path, every: int = 1, *, tell: Tell) -> Positions:
    """Every scored position of a model. EvaluationError where its vocabulary isn't the reference's.

    path:  of the reference
    every: 1 for all of its chunks, n for each n-th, of which the first is one
    tell:  after every chunk, chunks done and chunks in all
    """
    reference = read_reference(path)
    if engine.n_vocab != reference.n_vocab:
        what = f"its vocabulary has {engine.n_vocab:,} tokens, the reference's {reference.n_vocab:,}"
        raise EvaluationError(what, "a reference serves files of the same model", file=engine.path)
    if engine.vocabulary(reference.tokens) != reference.vocabulary:
        what = "tokens of the text mean something else to it than to the reference"
        raise EvaluationError(what, "a reference serves files of the same model", file=engine.path)
    found: list[Positions] = []
    tokens, targets = reference.tokens[::every], reference.targets[::every]
    rows = zip(engine.logits(tokens), targets, islice(reference.rows(), None, None, every), strict=True)
    with ThreadPoolExecutor(engine.threads) as pool:
        for number, (logits, wanted, kept) in enumerate(rows):
            blocks = _blocks(_finite(logits, engine))
            found += pool.map(
                compare,
                (logits[block] for block in blocks),
                (wanted[block] for block in blocks),
                kept.parts(blocks),
            )
            tell((number + 1, len(tokens)))
    return Positions.join(found)


def _chunks(engine: LanguageModel, text: Text, n_ctx: int, most: int | None) -> NDArray[np.int32]:
    tokens = engine.tokenize(text.data)
    count = len(tokens) // n_ctx
    if count < 1:
        raise EvaluationError(
            f"{text.name} has {len(tokens):,} tokens, and a chunk takes {n_ctx:,}",
            "use a longer text, or a smaller context",
        )
    count = count if most is None else min(most, count)
    return tokens[: count * n_ctx].reshape(count, n_ctx)


def _blocks(logits: NDArray[np.float32]) -> list[slice]:
    """Rows that a thread takes at a time, so that what it makes of them stays small, whatever the vocabulary."""
    step = max(1, _BLOCK // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _finite(logits: NDArray[np.float32], engine: LanguageModel) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        what = "it gives NaN or Inf for logits: the file is broken, or llama.cpp computes it wrongly here"
        raise EvaluationError(what, "`quantrecipe verify` looks into the weights", file=engine.path)
    return logits
