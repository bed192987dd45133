"""quantrecipe plan: what a person sees, what a machine gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]

RECIPE = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - tensors: attn_v
    layers: first 1
    type: Q6_K
    why: values matter [most] in front
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Paths of a recipe and a model of 60 layers."""
    monkeypatch.chdir(tmp_path)
    Path("mix.yaml").write_text(RECIPE, encoding="utf-8")
    tensors = llama_tensors(layers=60, hidden=256, vocab=32)
    write_gguf(Path("model.gguf"), tensors, llama_metadata(block_count=60))
    return "mix.yaml", "model.gguf"


def test_sixty_layers_fit_on_a_screen(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 45
    assert "0-59" in out
    assert "1-59" in out
    assert "values matter [most] in front" in out
    assert "mix.yaml:5" in out
    assert "bits per weight" in out


def test_all_shows_every_tensor(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files, "--all"]) == 0
    out = capsys.readouterr().out
    assert all(f"blk.{i}.ffn_up.weight" in out for i in range(60))


def test_json_adds_up(files: tuple[str, str], capsys: Output) -> None:
    assert main(["plan", *files, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["recipe"] == "mix"
    assert len(plan["tensors"]) == 60 * 9 + 3
    assert plan["tensors"][-1]["offset"] + plan["tensors"][-1]["nbytes"] <= plan["nbytes"]
    assert {t["because"] for t in plan["tensors"] if t["type"] == "Q6_K"} == {"mix.yaml:5"}


def test_nothing_is_written(files: tuple[str, str], tmp_path: Path, capsys: Output) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    main(["plan", *files])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_fallbacks_are_shown(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("odd.gguf"), llama_tensors(cols=96, hidden=256, layers=1))
    Path("r.yaml").write_text("quantrecipe: 1\nname: r\ndefault: Q6_K\n", encoding="utf-8")
    assert main(["plan", "r.yaml", "odd.gguf"]) == 0
    out = capsys.readouterr().out
    assert "instead of Q6_K" in out
    assert "96 columns don't divide" in out
    assert main(["plan", "r.yaml", "odd.gguf", "--strict"]) == 1
    assert "fallbacks are refused by --strict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml", "model.gguf"], "nothing.yaml"),
        (["mix.yaml", "nothing.gguf"], "there is no such file or folder"),
        (["mix.yaml", "model.gguf", "--imatrix", "nothing.dat"], "nothing.dat"),
        (["mix.yaml", "mix.yaml"], "mix.yaml"),
    ],
)
def test_what_is_not_there_is_named(
    files: tuple[str, str], capsys: Output, arguments: list[str], message: str
) -> None:
    assert main(["plan", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
