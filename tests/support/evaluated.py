"""`quantrecipe eval` in a folder of its own, with llama.cpp's part played by a worker that invents figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result

from quantrecipe.cli.app import app
from quantrecipe.core.cache import cache_folder
from quantrecipe.engine import Engine, find_engine
from quantrecipe.engine.session import existing_gguf
from quantrecipe.evaluate import Positions, Text
from quantrecipe.evaluate import continuations as continuations_module
from quantrecipe.evaluate import prompts as prompts_module
from quantrecipe.evaluate import questions as questions_module
from quantrecipe.evaluate import requests as requests_module
from quantrecipe.evaluate.compact import compact
from quantrecipe.evaluate.prompts import Answers, Prompt
from quantrecipe.evaluate.reference import Reference, ScoredText, read_reference, write_reference
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.pairs import text as gguf_text

__all__ = ["REFERENCE", "engine_folder", "invented_worker", "run", "write_model"]

N_CTX, CHUNKS, SCORED, VOCABULARY = 512, 12, 255, 100


def invented_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, object]]:
    """A worker that invents figures, and three models and two texts in the folder: what sessions are asked for."""
    asked: list[dict[str, object]] = []

    class FakeSession:
        """What a session would answer; the process that it would start isn't there."""

        opened: ClassVar[list[str]] = []

        def __init__(self, path: Path, *, engine: Engine | Path | None, **running: object) -> None:
            self.path, self.library = existing_gguf(path), find_engine(engine).library

        def __enter__(self) -> FakeSession:
            self.opened.append(self.path.name)
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def call(self, function: object, *arguments: Any, hear: object = None) -> object:
            facts = {"model": str(self.path), "library": self.library, "nbytes": self.path.stat().st_size}
            if function is requests_module.run_reference:
                texts, out, settings = arguments
                asked.append(facts | {"texts": texts, "settings": settings})
                _write_reference(out, self.path, settings.key, texts)
                return None
            if function is continuations_module._continued:
                asked.append(facts | {"texts": None, "places": arguments[1]})
                # From a token on that depends on the name, others than the reference's.
                same = 128 if "bf16" in self.path.name else 100 - 2 * len(self.path.name)
                return tuple((*range(same), *[9] * (128 - same)) for _ in arguments[1])
            if function is questions_module._asked:
                asked.append(facts | {"texts": None, "questions": arguments[0]})
                # The reference is right; other models are wrong in every third question, or all but every third.
                wrong = {"bf16.gguf": (), "q4.gguf": (0,)}.get(self.path.name, (0, 1))
                return ["B" if n % 3 not in wrong else "A" for n, _ in enumerate(arguments[0])]
            if function is prompts_module._answers:
                asked.append(facts | {"texts": None, "prompts": arguments})
                return _answers(self.path, *arguments)
            asked.append(facts | {"texts": None})
            rng = np.random.default_rng(0)
            kld = 0.001 * len(self.path.name)  # a longer name is a worse model
            count = sum(text.chunks for text in read_reference(arguments[0]).texts) * SCORED
            cost = rng.exponential(2, count)
            return Positions(
                cost=cost + kld,
                reference_cost=cost,
                divergence=kld * rng.exponential(1, count),
                agrees=(rng.random(count) < 0.9).astype(float),
            )

    monkeypatch.setattr(requests_module, "Session", FakeSession)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/kernels").symlink_to(cache_folder() / "kernels")  # compiled once, for all tests
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("QUANTRECIPE_ENGINE", str(engine_folder(tmp_path / "engine", b"libraries")))
    monkeypatch.chdir(tmp_path)
    for name in ("bf16.gguf", "q4.gguf", "much-worse.gguf"):
        write_model(tmp_path / name)
    for name in ("code.txt", "prose.txt"):
        (tmp_path / name).write_text(f"some {name}", encoding="utf-8")
    return asked


def engine_folder(folder: Path, data: bytes) -> Path:
    """A folder that would have llama.cpp's libraries; nothing here loads them."""
    folder.mkdir()
    (folder / "libllama.so").write_bytes(data)
    return folder


def write_model(path: Path, **metadata: str) -> None:
    entry = TensorEntry(name="token_embd.weight", shape=(4, 32), ggml_type=0, offset=0)
    values = {"general.architecture": "llama"} | metadata
    header = encode_header({key: gguf_text(value) for key, value in values.items()}, [entry])
    path.write_bytes(header + bytes(4 * 32 * 4))


def _write_reference(path: Path, model: Path, key: str, texts: Sequence[Text]) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, VOCABULARY, (CHUNKS * len(texts), N_CTX)).astype(np.int32)
    logits = rng.standard_normal((len(tokens), SCORED, VOCABULARY)).astype(np.float32)
    reference = Reference(
        path=path,
        model=model.name,
        key=key,
        n_ctx=N_CTX,
        n_vocab=VOCABULARY,
        vocabulary="",
        tail=0.003,
        texts=tuple(ScoredText(name=text.name, digest=text.digest, chunks=CHUNKS) for text in texts),
        tokens=tokens,
    )
    write_reference(reference, [compact(some, tokens[0, -SCORED:]) for some in logits])


def _answers(
    path: Path,
    prompts: Sequence[Prompt],
    source: str,
    most: int,
    like: Answers | None,
    side_by_side: int | None,
) -> Answers:
    """Of each prompt its line; of a file whose name has an s, every other one followed by something else."""
    said = [
        (prompt.line, 90) if "s" in path.name and prompt.line % 2 else (prompt.line,) for prompt in prompts
    ]
    return Answers(
        prompts=tuple((prompt.line,) for prompt in prompts),
        n_vocab=VOCABULARY,
        vocabulary="",
        most=most,
        tokens=tuple(said),
        texts=tuple(" ".join(f"<b>{token}</b>" for token in its) for its in said),
    )


def run(arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(app, ["--no-plugins", "eval", *arguments])


REFERENCE = ["--reference", "bf16.gguf", "--text", "code.txt"]
