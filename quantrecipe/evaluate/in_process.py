"""Running models in this process: a reference from a model and texts; the positions of a model beside a reference.

What users call is in `evaluate`, and runs this in a process of its own: see `worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import CompactRows, compact
from quantrecipe.evaluate.engine import LanguageModel
from quantrecipe.evaluate.positions import Positions, compare
from quantrecipe.evaluate.reference import Reference, ScoredText, write_reference
from quantrecipe.texts.plain_text import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SMALLEST_CONTEXT", "Progress", "run_model", "run_reference"]

SMALLEST_CONTEXT = 16
"""Tokens; half of a chunk is context."""

_BLOCK = 1 << 20
"""Logits."""

Progress = Callable[[int, int], None]
"""Told after every chunk: chunks done, chunks in all."""


def run_reference(
    engine: LanguageModel,
    texts: Sequence[Text],
    out: Path,
    *,
    chunks: int | None,
    tail: float,
    key: str,
    progress: Progress,
) -> None:
    """Write what a model says about the texts. EvaluationError for a text without a whole chunk."""
    parts = [_chunks(engine, text, chunks) for text in texts]
    tokens = np.concatenate(parts)
    reference = Reference(
        path=out,
        model=engine.path.name,
        key=key,
        n_ctx=engine.n_ctx,
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
            progress(number + 1, len(tokens))

    with ThreadPoolExecutor(engine.threads) as pool:
        write_reference(reference, records(pool))


def run_model(engine: LanguageModel, reference: Reference, progress: Progress) -> Positions:
    """Every scored position of a model. EvaluationError where its vocabulary isn't the reference's."""
    if engine.n_vocab != reference.n_vocab:
        what = f"its vocabulary has {engine.n_vocab:,} tokens, the reference's {reference.n_vocab:,}"
        raise EvaluationError(what, "a reference serves files of the same model", file=engine.path)
    if engine.vocabulary(reference.tokens) != reference.vocabulary:
        what = "tokens of the text mean something else to it than to the reference"
        raise EvaluationError(what, "a reference serves files of the same model", file=engine.path)
    found: list[Positions] = []
    rows = zip(engine.logits(reference.tokens), reference.targets, reference.rows(), strict=True)
    with ThreadPoolExecutor(engine.threads) as pool:
        for number, (logits, targets, kept) in enumerate(rows):
            blocks = _blocks(_finite(logits, engine))
            found += pool.map(
                compare,
                (logits[block] for block in blocks),
                (targets[block] for block in blocks),
                kept.parts(blocks),
            )
            progress(number + 1, reference.chunks)
    return Positions.join(found)


def _chunks(engine: LanguageModel, text: Text, most: int | None) -> NDArray[np.int32]:
    tokens = engine.tokenize(text.data)
    count = len(tokens) // engine.n_ctx
    if count < 1:
        raise EvaluationError(
            f"{text.name} has {len(tokens):,} tokens, and a chunk takes {engine.n_ctx:,}",
            "use a longer text, or a smaller context",
        )
    count = count if most is None else min(most, count)
    return tokens[: count * engine.n_ctx].reshape(count, engine.n_ctx)


def _blocks(logits: NDArray[np.float32]) -> list[slice]:
    """Rows that a thread takes at a time, so that what it makes of them stays small, whatever the vocabulary."""
    step = max(1, _BLOCK // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _finite(logits: NDArray[np.float32], engine: LanguageModel) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        what = "it gives NaN or Inf for logits: the file is broken, or llama.cpp computes it wrongly here"
        raise EvaluationError(what, "`quantrecipe verify` looks into the weights", file=engine.path)
    return logits
