"""score, evaluate: a model held against a reference. llama.cpp runs in a process of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from quantrecipe.evaluate.compare import Positions
from quantrecipe.evaluate.libraries import Engine, find_engine
from quantrecipe.evaluate.process import Log, existing_gguf, run_worker
from quantrecipe.evaluate.reference import Reference
from quantrecipe.evaluate.run import Progress
from quantrecipe.evaluate.statistics import Evaluation, summarise

__all__ = ["evaluate", "score"]


def score(
    file: str | Path,
    reference: Reference,
    *,
    threads: int | None = None,
    gpu_layers: int | None = None,
    engine: Engine | str | Path | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Positions:
    """Run a GGUF over the reference's chunks: every scored position. `reference.split` tells the texts apart."""
    with tempfile.TemporaryDirectory(prefix="quantrecipe-") as folder:
        out = Path(folder) / "positions.npy"
        request = {
            "model": str(existing_gguf(file)),
            "texts": None,
            "reference": str(reference.path),
            "out": str(out),
            "threads": threads,
            "gpu_layers": gpu_layers,
            **find_engine(engine).request,
        }
        run_worker(request, progress=progress, log=log)
        return Positions.from_stacked(np.load(out))


def evaluate(
    file: str | Path,
    reference: Reference,
    *,
    threads: int | None = None,
    gpu_layers: int | None = None,
    engine: Engine | str | Path | None = None,
    progress: Progress | None = None,
    log: Log | None = None,
) -> Evaluation:
    """The figures of a GGUF against a reference, over all its texts."""
    positions = score(
        file, reference, threads=threads, gpu_layers=gpu_layers, engine=engine, progress=progress, log=log
    )
    return summarise(positions)
