"""Running models: a reference from a model and texts; the positions of a model beside a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import DEFAULT_TAIL, CompactRows, compact
from quantrecipe.evaluate.compare import Positions, compare
from quantrecipe.evaluate.engine import LanguageModel
from quantrecipe.evaluate.reference import Reference, ScoredText, read_reference, write_reference
from quantrecipe.evaluate.statistics import Evaluation, summarise

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Progress", "Text", "evaluate", "make_reference", "read_text", "score"]

DEFAULT_CONTEXT = 512
SMALLEST_CONTEXT = 16

Progress = Callable[[int, int], None]
"""Told after every chunk: chunks done, chunks in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text to evaluate on, and what to call it."""

    name: str
    data: bytes

    @property
    def digest(self) -> str:
        """Of its bytes."""
        return hashlib.blake2b(self.data, digest_size=16).hexdigest()


def read_text(path: str | Path) -> Text:
    """A file as a text. EvaluationError where it can't be read."""
    try:
        return Text(name=Path(path).name, data=Path(path).read_bytes())
    except OSError as error:
        raise EvaluationError(f"the text can't be read ({error.strerror or error})", file=path) from error


def make_reference(
    model: str | Path,
    texts: Text | Sequence[Text],
    out: str | Path,
    *,
    n_ctx: int = DEFAULT_CONTEXT,
    chunks: int | None = None,
    tail: float = DEFAULT_TAIL,
    threads: int | None = None,
    gpu_layers: int | None = None,
    progress: Progress | None = None,
) -> Reference:
    """Run an unquantized GGUF over texts and write what it says to `out`, compactly.

    chunks: the most of each text; None for all that it has
    EvaluationError where model or text aren't fit for it.
    """
    texts = [texts] if isinstance(texts, Text) else list(texts)
    if n_ctx < SMALLEST_CONTEXT:
        raise EvaluationError(f"a context of {n_ctx} tokens is too short", f"use {SMALLEST_CONTEXT} or more")
    with LanguageModel(Path(model), n_ctx=n_ctx, threads=threads, gpu_layers=gpu_layers) as engine:
        parts = [_chunks(engine, text, n_ctx, chunks) for text in texts]
        tokens = np.concatenate(parts)
        reference = Reference(
            path=Path(out),
            model=engine.description,
            key="",
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

        def records() -> Iterator[CompactRows]:
            for number, logits in enumerate(engine.logits(tokens)):
                yield compact(logits, reference.targets[number], tail)
                if progress is not None:
                    progress(number + 1, len(tokens))

        write_reference(reference, records())
    return read_reference(out)


def score(
    file: str | Path,
    reference: Reference,
    *,
    threads: int | None = None,
    gpu_layers: int | None = None,
    progress: Progress | None = None,
) -> Positions:
    """Run a GGUF over the reference's chunks; every scored position. `reference.split` tells the texts apart."""
    path = Path(file)
    with LanguageModel(path, n_ctx=reference.n_ctx, threads=threads, gpu_layers=gpu_layers) as engine:
        if engine.n_vocab != reference.n_vocab:
            what = f"its vocabulary has {engine.n_vocab:,} tokens, the reference's {reference.n_vocab:,}"
            raise EvaluationError(what, "a reference serves files of the same model", file=path)
        if engine.vocabulary(reference.tokens) != reference.vocabulary:
            what = "tokens of the text mean something else to it than to the reference"
            raise EvaluationError(what, "a reference serves files of the same model", file=path)
        parts = []
        rows = zip(engine.logits(reference.tokens), reference.targets, reference.rows(), strict=True)
        for number, (logits, targets, compact_rows) in enumerate(rows):
            parts.append(compare(logits, targets, compact_rows))
            if progress is not None:
                progress(number + 1, reference.chunks)
    return Positions.join(parts)


def evaluate(
    file: str | Path,
    reference: Reference,
    *,
    threads: int | None = None,
    gpu_layers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The figures of a GGUF against a reference, over all its texts."""
    return summarise(score(file, reference, threads=threads, gpu_layers=gpu_layers, progress=progress))


def _chunks(engine: LanguageModel, text: Text, n_ctx: int, most: int | None) -> NDArray[np.int32]:
    tokens = engine.tokenize(text.data)
    count = len(tokens) // n_ctx
    if count < 1:
        raise EvaluationError(
            f"{text.name} has {len(tokens):,} tokens, and a chunk is {n_ctx:,}",
            "use a longer text, or a smaller context",
        )
    count = count if most is None else min(most, count)
    return tokens[: count * n_ctx].reshape(count, n_ctx)
