"""What a model is run for: a reference of it and texts, or what it says beside a reference.

llama.cpp runs in a process of its own, so that its crashes are errors here, and its memory is given back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from quantrecipe.engine.session import Hear, RunOptions, Session, existing_gguf
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import DEFAULT_TAIL
from quantrecipe.evaluate.in_process import SMALLEST_CONTEXT, Settings, run_model, run_reference
from quantrecipe.evaluate.positions import Positions
from quantrecipe.evaluate.reference import Reference, read_reference
from quantrecipe.evaluate.statistics import Evaluation, summarise
from quantrecipe.remote_files import remote_file
from quantrecipe.texts.plain_text import Text

__all__ = [
    "DEFAULT_CONTEXT",
    "Progress",
    "evaluate",
    "make_reference",
    "model_key",
    "opened",
    "reference_key",
    "score",
]

DEFAULT_CONTEXT = 512
"""Tokens in a chunk, as llama-perplexity has it."""

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16  # 4 MiB from all over the model: read in a moment


Progress = Callable[[int, int], None]
"""Told after every chunk: chunks done, chunks in all."""


@contextmanager
def opened(model: str | Path | Session, **running: Unpack[RunOptions]) -> Iterator[Session]:
    """A session with the model open; one that is open already stays so."""
    if isinstance(model, Session):
        yield model
    else:
        with Session(model, **running) as session:
            yield session


def make_reference(
    model: str | Path | Session,
    texts: Text | Sequence[Text],
    out: str | Path,
    *,
    n_ctx: int = DEFAULT_CONTEXT,
    chunks: int | None = None,
    tail: float = DEFAULT_TAIL,
    noise_chunks: int = 0,
    spread: bool = False,
    key: str | None = None,
    progress: Progress | None = None,
    **running: Unpack[RunOptions],
) -> Reference:
    """Run an unquantized GGUF over texts and write what it says to `out`, compactly.

    model:        its path, or a session in which it is open
    chunks:       the most of each text, from its beginning; None for all that it has
    tail:         probability per position whose tokens aren't told apart; see `compact`
    noise_chunks: chunks that are run a second time, with other batches, for `Reference.noise`
    spread:       take them at even distances from all of the text instead
    key:          what to say of where it comes from; None for `reference_key`
    progress:     told after every chunk
    EvaluationError where llama.cpp, the model or a text isn't fit for it; OutputError where `out` can't be written.
    """
    texts = [texts] if isinstance(texts, Text) else list(texts)
    _check(texts, n_ctx, chunks, tail)
    path = model.path if isinstance(model, Session) else existing_gguf(model)
    if key is None:
        key = reference_key(
            [path], texts, n_ctx=n_ctx, chunks=chunks, tail=tail, noise_chunks=noise_chunks, spread=spread
        )
    settings = Settings(
        n_ctx=n_ctx, chunks=chunks, tail=tail, noise_chunks=noise_chunks, key=key, spread=spread
    )
    with opened(model, **running) as session:
        session.call(run_reference, texts, Path(out), settings, hear=_heard(progress))
    return read_reference(out)


def score(
    file: str | Path | Session,
    reference: Reference,
    *,
    every: int = 1,
    first: int = 0,
    progress: Progress | None = None,
    **running: Unpack[RunOptions],
) -> Positions:
    """Run a GGUF, or the one that is open in a session, over the reference's chunks: every position that counts.

    `reference.split` tells the texts apart.

    every: 1 for all chunks, n for each n-th from `first` on
    """
    with opened(file, **running) as session:
        return session.call(run_model, reference.path, every, first, hear=_heard(progress))


def evaluate(
    file: str | Path, reference: Reference, *, progress: Progress | None = None, **running: Unpack[RunOptions]
) -> Evaluation:
    """Compute the figures of a GGUF against a reference, over all its texts."""
    return summarise(score(file, reference, progress=progress, **running))


def reference_key(
    model: Sequence[str | Path],
    texts: Sequence[Text],
    *,
    n_ctx: int,
    chunks: int | None,
    tail: float = DEFAULT_TAIL,
    noise_chunks: int = 0,
    spread: bool = False,
) -> str:
    """Make a digest of everything that a reference depends on. `model`: all its files; of a GGUF, the (first) file."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"2 {n_ctx} {chunks} {tail} {noise_chunks} {model_key(model)}".encode())
    if spread:
        digest.update(b"spread")
    for text in texts:
        digest.update(f"{text.name} {text.digest}".encode())
    return digest.hexdigest()


def model_key(files: Sequence[str | Path]) -> str:
    """Make a digest of a model: of each file its name, size and time of change, first MiB, and samples from all over.

    Reading the whole would take longer than many an evaluation.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in map(Path, files):
        try:
            if remote_file(path) is not None:
                digest.update(str(path).encode())  # it has the commit in it
                continue
            facts = path.stat()
            digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}".encode())
            with path.open("rb") as file:
                digest.update(file.read(1 << 20))
                for number in range(_SAMPLES):
                    file.seek(facts.st_size * number // _SAMPLES)
                    digest.update(file.read(_SAMPLE_BYTES))
        except OSError as error:
            raise EvaluationError(f"can't be read ({error.strerror or error})", file=path) from error
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
