"""What the worker is asked for: a reference of a model and texts, or what a model says beside a reference.

llama.cpp runs in a process of its own, so that its crashes are errors here, and its memory is given back.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import DEFAULT_TAIL
from quantrecipe.evaluate.in_process import SMALLEST_CONTEXT, Progress
from quantrecipe.evaluate.libraries import Engine, find_engine
from quantrecipe.evaluate.positions import Positions
from quantrecipe.evaluate.process import Log, existing_gguf, run_worker
from quantrecipe.evaluate.reference import Reference, read_reference
from quantrecipe.evaluate.statistics import Evaluation, summarise
from quantrecipe.texts.plain_text import Text

__all__ = ["DEFAULT_CONTEXT", "RunOptions", "evaluate", "make_reference", "reference_key", "score"]

DEFAULT_CONTEXT = 512
"""Tokens in a chunk, as llama-perplexity has it."""

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16  # 4 MiB from all over the model: read in a moment


class RunOptions(TypedDict, total=False):
    """How llama.cpp runs a model. What is None, or isn't there, is left to it.

    threads:    None for all processors that this process may use
    gpu_layers: None for all, where llama.cpp was built for a GPU
    engine:     where llama.cpp is; None for what the environment names, or llama-cpp-python
    log:        told each line of llama.cpp's log
    """

    threads: int | None
    gpu_layers: int | None
    engine: Engine | str | Path | None
    log: Log | None


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
    _check(texts, n_ctx, chunks, tail)
    request = {
        "model": str(existing_gguf(model)),
        "texts": [{"name": text.name, "data": base64.b64encode(text.data).decode()} for text in texts],
        "out": str(out),
        "n_ctx": n_ctx,
        "chunks": chunks,
        "tail": tail,
        "key": reference_key(model, texts, n_ctx=n_ctx, chunks=chunks, tail=tail),
    }
    _run(request, progress, running)
    return read_reference(out)


def score(
    file: str | Path, reference: Reference, *, progress: Progress | None = None, **running: Unpack[RunOptions]
) -> Positions:
    """Run a GGUF over the reference's chunks: every scored position. `reference.split` tells the texts apart."""
    with tempfile.TemporaryDirectory(prefix="quantrecipe-") as folder:
        out = Path(folder) / "positions.npy"
        request = {
            "model": str(existing_gguf(file)),
            "texts": None,
            "reference": str(reference.path),
            "out": str(out),
        }
        _run(request, progress, running)
        return Positions.from_stacked(np.load(out))


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


def _run(request: dict[str, Any], progress: Progress | None, running: RunOptions) -> None:
    request |= {name: running.get(name) for name in ("threads", "gpu_layers")}
    request |= find_engine(running.get("engine")).request
    run_worker(request, progress=progress, log=running.get("log"))


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
