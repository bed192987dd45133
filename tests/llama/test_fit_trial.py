"""fit --verify: both mixes made and run by the real llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantrecipe.cli import main

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]


def test_what_is_promised_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = Path("held-out.txt")
    text.write_text(
        "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("quantrecipe/plan/*.py")))
    )
    args = ["--like", "Q4_K_M", "--prior", "--verify", str(text), "--threads", "2", "--json"]
    assert main(["fit", str(ROOT / "examples/tiny-code"), *args]) == 0
    said = json.loads(capsys.readouterr().out)
    trial = said["trial"]
    assert trial["rival"] == said["best_stock"]
    assert trial["positions"] > 1000
    assert 0 < trial["fitted"] < 0.02
    assert trial["difference"] == pytest.approx(trial["fitted"] - trial["stock"], abs=1e-6)
    assert said["recipe"].startswith("# Tried on held-out.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["held-out.txt"]
