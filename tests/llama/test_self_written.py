"""Generation by the real llama.cpp, and text that the example model writes with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from support.generation_jobs import generated, likeliest_after, texts_of

from quantrecipe.calibration.collect import tokenize
from quantrecipe.cli.app import app
from quantrecipe.engine import Session
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.texts import Rendered, read_domain

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]

Tokens = NDArray[np.int32]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = load_registry(plugins=False)
    plan = make_plan(
        load_recipe("llama.cpp/BF16", registry=registry),
        open_model(ROOT / "examples/tiny-code", registry=registry),
        registry=registry,
    )
    return apply_plan(plan, tmp_path_factory.mktemp("tiny") / "tiny.gguf", registry=registry).path


@pytest.fixture
def session(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    return Session(tiny)


def prompts(session: Session) -> list[Tokens]:
    texts = (
        "def merge(a, b):\n",
        "import json\nfrom pathlib import Path\n\n\ndef main() -> None:\n",
        "class A:\n",
    )
    return session.call(
        tokenize, [Rendered(text=text, special=False, answers=(), place="") for text in texts]
    )


def test_the_likeliest_tokens_are_those_of_the_whole_text(session: Session) -> None:
    """Token by token beside other sequences, as when all is run at once: positions, sequences and cache are right."""
    with session:
        asked = prompts(session)
        answers = session.call(generated, asked, 40, True, None)
        for prompt, answer in zip(asked, answers, strict=True):
            chunk = np.concatenate([prompt, answer])
            scored = session.call(likeliest_after, chunk)
            behind = chunk[len(chunk) - len(scored) :]
            from_answer = min(len(scored), len(answer))
            assert from_answer > 10
            # In another batch the engine rounds differently, so that two tokens that are as likely may change places.
            agree = scored[-from_answer:] == behind[-from_answer:]
            assert agree.mean() > 0.9
        assert session.call(generated, asked, 40, False, 0.999999)[0].tolist() == answers[0].tolist()


def test_pieces_are_the_text(session: Session) -> None:
    text = "def f(x):\n    return 'é → 日本' * x\n".encode()
    with session:
        assert b"".join(session.call(texts_of, text)) == text


def test_the_same_seed_writes_the_same_and_the_text_is_read(tiny: Path, tmp_path: Path) -> None:
    def write(name: str, *more: str) -> bytes:
        out = tmp_path / f"{name}.jsonl"
        common = ("--no-plugins", "imatrix", "self", str(tiny), "-o", str(out), "--tokens", "2k")
        result = CliRunner().invoke(app, [*common, "--answer-tokens", "64", *more])
        assert result.exit_code == 0, result.output
        return out.read_bytes()

    first = write("first")
    assert write("again") == first
    assert write("other", "--seed", "2") != first
    about = json.loads((tmp_path / "first.about.json").read_text(encoding="utf-8"))
    assert about["tokens"] >= 2048
    assert about["files"]["first.jsonl"]["xxh3_128"] == read_domain(str(tmp_path / "first.jsonl")).digest
    result = CliRunner().invoke(
        app,
        [
            *("--no-plugins", "imatrix", "compute", str(tiny), "--text", str(tmp_path / "first.jsonl")),
            *("--context", "128", "-o", str(tmp_path / "m.gguf")),
        ],
    )
    assert result.exit_code == 0, result.output
