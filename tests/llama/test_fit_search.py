"""fit --text: mixes tried in the open model by the real llama.cpp, with and without an encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantrecipe.cli import main

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "examples/tiny-code")


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    sources = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("quantrecipe/plan/*.py"))]
    Path("search.txt").write_text("\n".join(sources)[:40_000], encoding="utf-8")
    return "search.txt"


ARGS = ("fit", TINY, "--types", "Q3_K,Q4_K,Q5_K,Q6_K,Q8_0", "--probes", "2", "--threads", "2", "--json")


def test_a_mix_is_tried_and_known_again(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [*ARGS, "--like", "Q4_K_M", "--text", text, "--evaluations", "3"]
    assert main(args) == 0
    said = json.loads(capsys.readouterr().out)["search"]
    assert [tried["mix"] for tried in said["tried"]][:2] == ["fitted", "Q4_K_M"]
    assert said["positions"] > 2500
    for tried in said["tried"]:
        assert 0.0005 < tried["kld"] < 0.02
        assert 0.3 < tried["kld"] / tried["expected"] < 3
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["search"] == said
    assert {path.name for path in Path().iterdir()} == {
        *("search.txt", "tiny-code.sensitivity.jsonl", "tiny-code.evaluations.jsonl"),
    }


def test_the_smallest_within_a_loss(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGS, "--kld", "0.004", "--text", text, "--evaluations", "4"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0.003 < said["search"]["value"] <= 0.004
    assert 4 < said["bits_per_weight"] < 5.5


def mixes() -> list[str]:
    """Lines of those that are kept."""
    lines = Path("tiny-code.evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "mix" in json.loads(line)]


def test_workers_find_the_smallest_in_fewer_steps(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two mixes at a time; a run with one worker, or with none, goes on with what was evaluated."""
    args = (*ARGS, "--kld", "0.004", "--text", text, "--evaluations", "12")
    by = ("--executor", "processes", "--executor-option")
    assert main([*args, *by, "workers=2"]) == 0
    said = json.loads(capsys.readouterr().out)["search"]
    assert 0.003 < said["value"] <= 0.004
    inside, outside = ([it for it in said["tried"] if it["within_limits"] is kept] for kept in (True, False))
    smallest = min(it["data_nbytes"] for it in inside)
    smaller = max(it["data_nbytes"] for it in outside if it["data_nbytes"] < smallest)
    assert smallest - smaller <= 0.002 * smallest or "evaluations are used up" in said["ended"]
    kept = mixes()
    assert main([*args, *by, "workers=2"]) == 0
    assert json.loads(capsys.readouterr().out)["search"] == said
    assert mixes() == kept
    assert main(args) == 0
    assert mixes()[: len(kept)] == kept
    alone = json.loads(capsys.readouterr().out)["search"]
    known = {it["data_nbytes"]: it["kld"] for it in said["tried"]}
    assert all(known.get(it["data_nbytes"], it["kld"]) == it["kld"] for it in alone["tried"])
    assert min(it["data_nbytes"] for it in alone["tried"] if it["within_limits"]) == pytest.approx(
        smallest, rel=0.004
    )


def test_with_an_encoder(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["imatrix", "compute", TINY, "--text", text, "--gram", "grams", "-o", "i.gguf"]) == 0
    capsys.readouterr()
    shared = [*ARGS, "--like", "Q3_K_M", "--text", text, "--imatrix", "i.gguf", "--evaluations", "1"]
    assert main(shared) == 0
    plain = json.loads(capsys.readouterr().out)["search"]["tried"][0]
    assert main([*shared, "--statistics", "grams"]) == 0
    said = json.loads(capsys.readouterr().out)
    encoded = said["search"]["tried"][0]
    assert "encoder: feedback" in said["recipe"]
    assert encoded["kld"] < 0.6 * plain["kld"]
    assert 0.5 < encoded["kld"] / encoded["expected"] < 2
