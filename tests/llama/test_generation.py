"""Answers of the real llama.cpp: each token is the likeliest after those before it, whatever runs beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.engine_jobs import answers, logits, pieces
from support.terminal import show

from quantrecipe.engine import Session
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests/data/texts/code.val.txt"
TEXTS = [
    b"def add(a, b):\n    return",
    b"import",
    b"The answer " * 60,
    b"for x in range(10):\n",
    b"class Path:\n",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = load_registry(plugins=False)
    plan = make_plan(
        load_recipe("llama.cpp/BF16", registry=registry),
        open_model(ROOT / "examples/tiny-code", registry=registry),
        registry=registry,
    )
    return apply_plan(plan, tmp_path_factory.mktemp("generation") / "BF16.gguf", registry=registry).path


@pytest.fixture(autouse=True)
def jobs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def test_each_token_is_the_likeliest(model: Path) -> None:
    """By the logits of prompt and answer as one chunk, whose second half is scored."""
    with Session(model) as session:
        said, prompts = session.call(answers, TEXTS, 48, None)
        for prompt, answer in zip(prompts, said, strict=True):
            whole = prompt + answer
            likeliest = session.call(logits, [whole]).argmax(axis=-1)[0]
            after = whole[len(whole) - len(likeliest) :]  # what follows each scored position
            generated = min(len(answer), len(likeliest))
            assert generated > 0
            assert likeliest[-generated:].tolist() == after[-generated:]


def test_it_is_the_same_whatever_runs_beside_it(model: Path) -> None:
    with Session(model) as session:
        together, _ = session.call(answers, TEXTS, 48, None)
        again, _ = session.call(answers, TEXTS, 48, None)
        alone = [session.call(answers, [text], 48, 1)[0][0] for text in TEXTS]
    assert together == again == alone


def test_pieces_are_the_text(model: Path) -> None:
    with Session(model) as session:
        _, prompts = session.call(answers, TEXTS, 1, None)
        for text, prompt in zip(TEXTS, prompts, strict=True):
            found, first = session.call(pieces, prompt)
            assert b"".join(found) == text
            assert first is None


def test_recipes_and_prompts_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, as a person types it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_bytes(b"\n".join(text.splitlines()[0] for text in TEXTS))
    matrix = ROOT / "tests/data/imatrix/imatrix.code.gguf"
    shown = show(
        [
            *("--no-plugins", "eval", "Q8_0", "Q3_K_M", "--imatrix", "none", "--imatrix", matrix),
            *("--reference", ROOT / "examples/tiny-code", "--text", TEXT, "--chunks", "12"),
            *(
                "--save-reference",
                "made.reference",
                "--prompts",
                "prompts.txt",
                "--answers",
                "a.json",
                "--json",
            ),
        ],
        width=None,
    )
    assert shown.status == 0, shown.err
    told = json.loads(shown.out)
    names = [file["name"] for file in told["files"]]
    assert names == ["Q8_0", "Q3_K_M@none", "Q3_K_M@imatrix.code.gguf"]
    assert [file["beside"]["verdict"] for file in told["files"][1:]] == ["worse", "worse"]
    assert told["reference"]["noise"]["positions"] == 8 * 255
    assert 0 < told["reference"]["noise"]["mean"] < 1e-6
    assert told["files"][0]["all"]["kld_mean"] > 100 * told["reference"]["noise"]["mean"]
    answered = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(answered["answers"]) == len(TEXTS)
    assert all(0 < len(it["reference"]["tokens"]) <= 128 for it in answered["answers"])
    shares = [it["differ"]["value"] for it in told["answers"]["files"].values()]
    assert shares[0] <= min(shares[1:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "made.reference", "prompts.txt"]


def test_pieces_may_be_parts_of_characters(model: Path) -> None:
    text = "größe = 'ä€𝄞'"
    with Session(model) as session:
        _, prompts = session.call(answers, [text.encode()], 1, None)
        found, _ = session.call(pieces, prompts[0])
    assert b"".join(found).decode() == text
