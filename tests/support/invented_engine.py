"""In place of llama.cpp, for `release`: what files say is invented, by their sizes; every run is noted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from quantrecipe.core.cache import cache_folder
from quantrecipe.engine.session import existing_gguf
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Positions
from quantrecipe.evaluate import requests as requests_module
from quantrecipe.evaluate.compact import compact
from quantrecipe.evaluate.reference import Reference, ScoredText, read_reference, write_reference
from support.fake_graph import FakeSession

__all__ = ["InventedEngine"]

N_CTX, CHUNKS, SCORED, VOCABULARY = 64, 12, 31, 50


class InventedEngine:
    """runs:    names of the files that were opened, the unquantized one with its reference
    broken:  files that can't be run
    dies_at: the run before which the whole process is interrupted
    """

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.broken: set[str] = set()
        self.dies_at: int | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        """Take the engine's place, with a cache of its own in a folder."""
        engine = self

        class Session:
            def __init__(self, path: Path, **running: object) -> None:
                self.path = existing_gguf(path)

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *error: object) -> None: ...

            def call(self, function: Callable[..., Any], *arguments: Any, hear: object = None) -> Any:
                return engine._call(self.path, function, arguments)

        kernels = cache_folder() / "kernels"
        (folder / "cache").mkdir()
        (folder / "cache/kernels").symlink_to(kernels)  # compiled once, for all tests
        (folder / "engine").mkdir()
        (folder / "engine/libllama.so").write_bytes(b"libraries")
        monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(folder / "cache"))
        monkeypatch.setenv("QUANTRECIPE_ENGINE", str(folder / "engine"))
        monkeypatch.setattr(requests_module, "Session", Session)
        monkeypatch.setattr("quantrecipe.calibration.compute.Session", FakeSession)
        facts = SimpleNamespace(label="invented 1.0")
        monkeypatch.setattr("quantrecipe.cli.release.figures.engine_facts", lambda engine: facts)

    def _call(self, path: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.dies_at is not None and len(self.runs) >= self.dies_at:
            raise KeyboardInterrupt
        self.runs.append(path.name)
        if path.name in self.broken:
            raise EvaluationError("llama.cpp can't load it", "update llama.cpp")
        if function is requests_module.run_reference:
            texts, out, settings = arguments
            rng = np.random.default_rng(1)
            tokens = rng.integers(0, VOCABULARY, (CHUNKS * len(texts), N_CTX)).astype(np.int32)
            logits = rng.standard_normal((len(tokens), SCORED, VOCABULARY)).astype(np.float32)
            reference = Reference(
                path=out,
                model=path.name,
                key=settings.key,
                n_ctx=N_CTX,
                n_vocab=VOCABULARY,
                vocabulary="",
                tail=0.003,
                texts=tuple(ScoredText(name=it.name, digest=it.digest, chunks=CHUNKS) for it in texts),
                tokens=tokens,
            )
            write_reference(reference, [compact(some, tokens[0, -SCORED:]) for some in logits])
            return None
        rng = np.random.default_rng(0)
        count = sum(text.chunks for text in read_reference(arguments[0]).texts) * SCORED
        cost, kld = rng.exponential(2, count), 1e5 / path.stat().st_size
        return Positions(
            cost=cost + kld,
            reference_cost=cost,
            divergence=kld * rng.exponential(1, count),
            agrees=(rng.random(count) < 0.9).astype(float),
        )
