"""What a model is run for: a reference of it and texts, or what it says beside a reference.

llama.cpp runs in a process of its own, so that its crashes are errors here, and its memory is given back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from quantrecipe.engine.session import Hear, RunOptions, Session, existing_gguf
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import DEFAULT_TAIL
from quantrecipe.evaluate.in_process import SMALLEST_CONTEXT, run_model, run_reference
from quantrecipe.evaluate.positions import Positions
from quantrecipe.evaluate.reference import Reference, read_reference
from quantrecipe.evaluate.statistics import Evaluation, summarise
from quantrecipe.evaluate.texts import Text

__all__ = [
    "DEFAULT_CONTEXT",
    "Progress",
    "evaluate",
    "make_reference",
    "make_reference_in",
    "reference_key",
    "score",
    "score_in",
]

DEFAULT_CONTEXT = 512
"""Tokens in a chunk, as llama-perplexity has it."""

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16  # 4 MiB from all over the model: read in a moment


Progress = Callable[[int, int], None]
"""Told after every chunk: chunks done, chunks in all."""


def make_reference(
    model: str | Path,
    texts: Text | Sequence[Text],
    out: str | Path,
    *,
    n_ctx: int = DEFAULT_CONTEXT,
    chunks: int | None = None,
    tail: float = DEFAULT_TAIL,
    progress: Progress | None = None,
    **running: Unpack[RunOptions],
) -> Reference:
    """Run an unquantized GGUF over texts and write what it says to `out`, compactly.

    chunks:   the most of each text; None for all that it has
    tail:     probability per position whose tokens aren't told apart; see `compact`
    progress: told after every chunk
    EvaluationError where llama.cpp, the model or a text isn't fit for it; OutputError where `out` can't be written.
    """
    texts = [texts] if isinstance(texts, Text) else list(texts)
    _check(texts, n_ctx, chunks, tail)  # before the model is loaded
    with Session(model, **running) as session:
        return make_reference_in(
            session, texts, out, n_ctx=n_ctx, chunks=chunks, tail=tail, progress=progress
        )


def make_reference_in(
    session: Session,
    texts: Sequence[Text],
    out: str | Path,
    *,
    n_ctx: int = DEFAULT_CONTEXT,
    chunks: int | None = None,
    tail: float = DEFAULT_TAIL,
    progress: Progress | None = None,
) -> Reference:
    """`make_reference`, by a session that has the model open."""
    _check(texts, n_ctx, chunks, tail)
    key = reference_key(session.path, texts, n_ctx=n_ctx, chunks=chunks, tail=tail)
    session.call(run_reference, texts, Path(out), n_ctx, chunks, tail, key, hear=_heard(progress))
    return read_reference(out)


def score(
    file: str | Path,
    reference: Reference,
    *,
    every: int = 1,
    progress: Progress | None = None,
    **running: Unpack[RunOptions],
) -> Positions:
    """Run a GGUF over the reference's chunks: every scored position. `reference.split` tells the texts apart.

    every: 1 for all chunks, n for each n-th, of which the first is one
    """
    with Session(file, **running) as session:
        return score_in(session, reference, every=every, progress=progress)


def score_in(
    session: Session, reference: Reference, *, every: int = 1, progress: Progress | None = None
) -> Positions:
    """`score`, of the model that a session has open, as it is now."""
    return session.call(run_model, reference.path, every, hear=_heard(progress))


def evaluate(
    file: str | Path, reference: Reference, *, progress: Progress | None = None, **running: Unpack[RunOptions]
) -> Evaluation:
    """Compute the figures of a GGUF against a reference, over all its texts."""
    return summarise(score(file, reference, progress=progress, **running))


def reference_key(
    model: str | Path, texts: Sequence[Text], *, n_ctx: int, chunks: int | None, tail: float = DEFAULT_TAIL
) -> str:
    """Make a digest of everything that a reference depends on.

    Of the model: its name, size and time of change, its first MiB, and samples from all over it. Reading the whole
    would take longer than many an evaluation.
    """
    path = existing_gguf(model)
    digest = hashlib.blake2b(digest_size=16)
    try:
        facts = path.stat()
        digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns} {n_ctx} {chunks} {tail}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            for number in range(_SAMPLES):
                file.seek(facts.st_size * number // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise EvaluationError(f"can't be read ({error.strerror or error})", file=path) from error
    for text in texts:
        digest.update(f"{text.name} {text.digest}".encode())
    return digest.hexdigest()


def _heard(progress: Progress | None) -> Hear | None:
    return None if progress is None else lambda done: progress(*done)


def _check(texts: Sequence[Text], n_ctx: int, chunks: int | None, tail: float) -> None:
    if not texts:
        raise EvaluationError("there is no text to evaluate on")
    names = [text.name for text in texts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EvaluationError(f"there are two texts of the name {twice[0]}", "give them different names")
    if n_ctx < SMALLEST_CONTEXT:
        raise EvaluationError(f"a context of {n_ctx} tokens is too short", f"use {SMALLEST_CONTEXT} or more")
    if chunks is not None and chunks < 1:
        raise EvaluationError(f"{chunks} chunks are none", "leave it out for all that there are")
    if not 0 <= tail < 1:
        raise EvaluationError(
            f"a tail of {tail} is no probability", "use 0 to keep every token, or a little more"
        )
