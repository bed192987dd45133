"""quantrecipe studio: what the command says before it serves, and what it hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from socket import socket

import pytest

from quantrecipe.cli import main
from quantrecipe.studio.session import Session

Output = pytest.CaptureFixture[str]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The sessions that were to be served."""
    found: list[Session] = []

    def serve(session: Session, listening: socket, ready: Callable[[str], None]) -> None:
        found.append(session)
        ready(f"http://127.0.0.1:{listening.getsockname()[1]}/?token=abc")

    monkeypatch.setattr("quantrecipe.studio.server.serve", serve)
    return found


@pytest.fixture
def browsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr("quantrecipe.studio.server.open_browser", found.append)
    return found


def test_nothing_named(served: list[Session], browsed: list[str], capsys: Output) -> None:
    assert main(["studio"]) == 0
    (session,) = served
    assert (session.model, session.base, session.recipe) == ("", "", None)
    (address,) = browsed
    said = capsys.readouterr().out.splitlines()
    assert said == [f"the studio is open at {address}", "Ctrl-C ends it."]


def test_no_browser(served: list[Session], browsed: list[str]) -> None:
    assert main(["studio", "--no-browser"]) == 0
    assert (len(served), browsed) == (1, [])


def test_what_is_named_is_handed_on(
    served: list[Session], browsed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text("quantrecipe: 1\ndefault: Q4_K  # mine\n")
    line = "studio shapes/qwen3-0.6b --recipe recipes/mine.yaml --base Q4_K_M --no-browser --allow-requantize"
    assert main(line.split()) == 0
    (session,) = served
    assert session.model == "shapes/qwen3-0.6b"
    assert session.recipe == ("mine.yaml", "quantrecipe: 1\ndefault: Q4_K  # mine\n")
    assert session.folder == Path("recipes")
    assert session.base == "Q4_K_M"
    assert session.knows.allow_requantize
    assert session.bases()[0] == "Q4_K_M"


def test_a_recipe_that_ships(served: list[Session], browsed: list[str]) -> None:
    assert main(["studio", "--recipe", "quantrecipe/chat"]) == 0
    assert served[0].recipe is not None
    assert "extends" in served[0].recipe[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.gguf"], "there is no such file or folder"),
        (["shapes/qwen4"], "there is no reference model"),
        (["--base", "Q4_K_XXL"], "Q4_K_XXL"),
        (["--recipe", "nowhere.yaml"], "nowhere.yaml"),
        (["--imatrix", "nowhere.dat"], "nowhere.dat"),
        (["--sensitivity", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    words: list[str], said: str, served: list[Session], capsys: Output
) -> None:
    assert main(["studio", "--no-browser", *words]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert served == []


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("quantrecipe.cli.studio.find_spec", lambda name: None)
    assert main(["studio"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said == 'error: the studio needs starlette and uvicorn; pip install "quantrecipe[studio]"'
