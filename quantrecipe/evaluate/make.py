"""make_reference: what an unquantized model says about texts, as a file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import DEFAULT_TAIL
from quantrecipe.evaluate.libraries import Engine, find_engine
from quantrecipe.evaluate.process import Log, existing_gguf, run_worker
from quantrecipe.evaluate.reference import Reference, read_reference
from quantrecipe.evaluate.run import SMALLEST_CONTEXT, Progress
from quantrecipe.evaluate.texts import Text

__all__ = ["DEFAULT_CONTEXT", "make_reference", "reference_key"]

DEFAULT_CONTEXT = 512
"""Tokens in a chunk, as llama-perplexity has it."""

_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


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
    engine: Engine | str | Path | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Reference:
    """Run an unquantized GGUF over texts and write what it says to `out`, compactly.

    chunks:     the most of each text; None for all that it has
    tail:       probability per position whose tokens aren't told apart; see `compact`
    threads:    None for all processors that this process may use
    gpu_layers: None for all, where llama.cpp was built for a GPU
    engine:     where llama.cpp is; None for what the environment names, or llama-cpp-python
    EvaluationError where llama.cpp, the model or a text isn't fit for it; OutputError where `out` can't be written.
    """
    texts = [texts] if isinstance(texts, Text) else list(texts)
    _check(texts, n_ctx, chunks, tail)
    request = {
        "model": str(existing_gguf(model)),
        "texts": [{"name": text.name, "data": base64.b64encode(text.data).decode()} for text in texts],
        "out": str(out),
        "n_ctx": n_ctx,
        "chunks": chunks,
        "tail": tail,
        "key": reference_key(model, texts, n_ctx=n_ctx, chunks=chunks, tail=tail),
        "threads": threads,
        "gpu_layers": gpu_layers,
        **find_engine(engine).request,
    }
    run_worker(request, progress=progress, log=log)
    return read_reference(out)


def reference_key(
    model: str | Path, texts: Sequence[Text], *, n_ctx: int, chunks: int | None, tail: float = DEFAULT_TAIL
) -> str:
    """A digest of all that a reference depends on.

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
