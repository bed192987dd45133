"""quantrecipe sensitivity: a file, a table and pictures; and what it says where it can't."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from click import Choice
from support.models import llama_tensors, write_gguf
from support.pages import read_page
from support.resident_engine import StandIn

from quantrecipe.cli import main
from quantrecipe.cli.sensitivity.command import command
from quantrecipe.engine import Engine
from quantrecipe.measure import RESIDENT_TYPES
from quantrecipe.sensitivity import read_sensitivity


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_gguf(tmp_path / "small-BF16.gguf", llama_tensors(layers=2))


def test_writes_a_file_and_shows_a_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", str(model), "--types", "Q4_0,Q8_0", "--sample", "1"]) == 0
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if not line.startswith("compiling kernels (")] == []
    assert re.search(r"ffn_down +2 +262\.14 K", out)
    assert re.search(r"16 tensors, 2 types, losses by error \d+ \(1 weights of each tensor\)", out)
    assert re.search(r"standard error of sampling: \d\.\d% of a loss, \d\.\d% at most", " ".join(out.split()))
    assert "alphas are the prior's" in out
    assert "wrote small.sensitivity.jsonl" in out
    found = read_sensitivity("small.sensitivity.jsonl")
    assert found.types == ("Q4_0", "Q8_0")
    assert found.provenance.n_layers == 2


def test_json_is_one_document(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", str(model), "--types", "Q8_0", "--all-rows", "-o", "o.jsonl", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tensors"] == 16
    assert said["sampling"] == "all rows"
    assert said["sampling_error_largest"] == 0


def test_results_of_others(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("kld.csv").write_text("tensor,type,kld\nbase,,0\nblk.0.attn_v,Q4_0,0.01\n", encoding="utf-8")
    assert main(["sensitivity", str(model), "--types", "Q4_0", "--table", "kld.csv", "-o", "o.jsonl"]) == 0
    assert "15 by prior, 1 by table" in capsys.readouterr().out
    found = read_sensitivity("o.jsonl")
    assert found.cost("blk.0.attn_v.weight", "Q4_0") == pytest.approx(0.01, rel=1e-4)
    assert found.provenance.weighing == "table 1"


@pytest.mark.parametrize("sealed", ["", "this llama.cpp (b9999) has other structs"])
def test_probes_say_what_the_model_was_in_memory(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sealed: str
) -> None:
    engine = StandIn()
    engine.sealed = sealed
    engine.install(monkeypatch)
    named = Engine(library=Path("libllama.so"), source="--engine")
    monkeypatch.setattr("quantrecipe.engine.require_engine", lambda path: named)
    Path("code.txt").write_text("some words\n", encoding="utf-8")
    arguments = ["sensitivity", str(model), "--types", "Q2_K,Q3_K", "--text", "code.txt", "--probes", "2"]
    assert main([*arguments, "-o", "o.jsonl"]) == 0
    out, err = (" ".join(text.split()) for text in capsys.readouterr())
    resident = "Q8_0" if sealed else "BF16"
    assert f"8 probes on code.txt with the model in {resident}; everything" in out
    note = f"note: each probe writes and loads a file, which takes longer: {sealed}"
    assert (note in err) == bool(sealed)
    assert [probe.resident for probe in read_sensitivity("o.jsonl").probes] == [resident] * 8
    assert main([*arguments, "-o", "p.jsonl", "--resident", "f32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["probed_in"] == ["F32"]
    assert all(probe.floor > 0 for probe in read_sensitivity("p.jsonl").probes)


def test_resident_types_are_those_that_there_are() -> None:
    (types,) = (option.type for option in command.params if option.name == "resident")
    assert isinstance(types, Choice)
    assert tuple(types.choices) == RESIDENT_TYPES


@pytest.mark.slow
def test_a_report_is_one_page_or_a_folder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["sensitivity", str(model), "--types", "Q4_0,Q6_K,Q8_0", "-o", "o.jsonl", "--report"]
    assert main([*arguments, "r.html"]) == 0
    page = Path("r.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert set(re.findall(r"https?://[^/\"]+", page)) <= {"http://www.w3.org"}  # nothing is fetched
    assert "ffn_down" in page
    assert read_page(page).problems == []
    assert main([*arguments, "pictures"]) == 0
    names = {path.name for path in Path("pictures").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("costs", "losses", "front") for kind in ("png", "svg")}
    before = {path: path.read_bytes() for path in Path("pictures").iterdir()}
    assert main([*arguments, "pictures"]) == 1
    assert "pictures exists" in capsys.readouterr().err
    assert main([*arguments, "pictures", "--force"]) == 0
    assert before == {path: path.read_bytes() for path in Path("pictures").iterdir()}


WRONG = {
    "no such type": (["--types", "Q4K"], 1, "there is no format 'Q4K'; did you mean Q4_K"),
    "no such analysis": (
        ["--analysis", "magic"],
        1,
        "there is no analysis 'magic'; known are error, imatrix",
    ),
    "probes without a text": (["--analysis", "probe"], 1, "give one with --text FILE"),
    "a table that isn't there": (["--table", "nothing.csv"], 1, "nothing.csv: can't be read"),
    "two ways": (["--sample", "9", "--all-rows"], 2, "exclude each other"),
    "two weighings": (["--text", "a", "--table", "b"], 2, "both weigh"),
    "two of one kind": (["--analysis", "error", "--analysis", "imatrix"], 2, "in one way"),
    "an executor without probes": (["--executor", "processes"], 2, "give one with --text"),
    "options of no executor": (["--executor-option", "workers=2"], 2, "is for --executor"),
    "no such executor": (["--executor", "nobody", "--text", "a"], 1, "no such executor 'nobody'"),
    "no folder": (["-o", "nowhere/o.jsonl"], 1, "can't write nowhere/o.jsonl.journal"),
}


@pytest.mark.parametrize(("arguments", "status", "said"), WRONG.values(), ids=WRONG.keys())
def test_says_what_is_wrong(
    model: Path, arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--types" not in arguments:
        arguments = [*arguments, "--types", "Q8_0"]
    assert main(["sensitivity", str(model), *arguments]) == status
    assert said in " ".join(capsys.readouterr().err.split())


def test_chats_need_a_template_before_anything_is_measured(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quantrecipe.evaluate.require_engine", lambda path: None)
    Path("talk.jsonl").write_text(
        '{"prompt": [{"role": "user", "content": "q"}], "completion": "a"}\n', encoding="utf-8"
    )
    assert main(["sensitivity", str(model), "--types", "Q8_0", "--text", "talk.jsonl"]) == 1
    assert "talk.jsonl:1: is a chat, and the model has no chat template" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not list(Path().glob("*.sensitivity.jsonl*"))


def test_a_file_of_something_else_is_kept(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("my notes\n", encoding="utf-8")
    assert main(["sensitivity", str(model), "--types", "Q8_0", "-o", "notes.txt"]) == 1
    assert "notes.txt:1: is not valid JSON" in capsys.readouterr().err
    assert Path("notes.txt").read_text(encoding="utf-8") == "my notes\n"


def test_what_is_measured_in_place_of_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "odd.gguf", llama_tensors(layers=1, hidden=576))
    arguments = ["sensitivity", "odd.gguf", "--types", "Q4_K", "--sample", "1"]
    assert main([*arguments, "--report", "r.html"] if find_spec("matplotlib") else arguments) == 0
    out, err = capsys.readouterr()
    assert "blk.0.ffn_down.weight can't be Q4_K: measured in Q5_0 instead, as apply falls back" in err
    assert "Q4_K" in out
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fallbacks"] == [{"type": "Q4_K", "measured": "Q5_0", "tensors": ["blk.0.ffn_down.weight"]}]
    assert said["left_out"] == said["already_quantized"] == {}


def test_a_quantized_source_is_refused_or_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "pure/Q8_0", str(model), "-o", "q8.gguf"]) == 0
    arguments = ["sensitivity", "q8.gguf", "--types", "Q8_0", "--sample", "1"]
    assert main(arguments) == 1
    assert "16 of its 16 matrices are already quantized (Q8_0)" in capsys.readouterr().err
    assert main([*arguments, "--allow-requantize"]) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "errors are measured against what is left of their weights" in err
