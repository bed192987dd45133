"""What a command needs at its end is asked for at its beginning, and no picture takes results away."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.engine import report as report_module
from quantrecipe.errors import OutputError

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))
    (tmp_path / "text.txt").write_text("some text", encoding="utf-8")
    (tmp_path / "taken").write_text("", encoding="utf-8")


@pytest.fixture
def imatrix(tmp_path: Path) -> Path:
    return write_gguf_imatrix(tmp_path / "im.gguf", {"blk.0.attn_q.weight": ([[1.0] * 256], [4.0])})


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """As if a package weren't installed."""
    monkeypatch.setattr("quantrecipe.engine.require_engine", report_module.require_engine)
    for name in ("QUANTRECIPE_ENGINE", "LLAMA_CPP_LIB_PATH"):
        monkeypatch.delenv(name, raising=False)
    real = importlib.util.find_spec

    def leave_out(name: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda it, *more: None if it == name else real(it, *more)
        )
        for place in ("quantrecipe.cli.pictures.figure", "quantrecipe.engine.libraries"):
            monkeypatch.setattr(f"{place}.find_spec", importlib.util.find_spec)

    return leave_out


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What took its time, though it should not have begun."""
    done: list[str] = []
    # What takes these names from where they are defined has to have them before they are others, and to keep them.
    for module in (
        "fit",
        "fit.trial",
        "cli.eval.run",
        "cli.planned.inputs",
        "cli.imatrix.calibrating",
        "cli.export",
        "cli.lock",
        "cli.import_",
    ):
        importlib.import_module(f"quantrecipe.{module}")
    for place in (
        "quantrecipe.measure.predicted.measure_tensors",
        "quantrecipe.cli.eval.reference.make_reference",
        "quantrecipe.planning.make_plan",
        "quantrecipe.importance.read_importance.read_importance",
        "quantrecipe.exchange.from_files.recover.recover",
    ):
        monkeypatch.setattr(place, lambda *args, place=place, **more: done.append(place))
    return done


ENGINE = {
    "sensitivity": ["sensitivity", "m.gguf", "--text", "text.txt"],
    "fit": ["fit", "m.gguf", "--bpw", "5", "--text", "text.txt"],
    "fit --verify": ["fit", "m.gguf", "--bpw", "5", "--verify", "text.txt"],
    "eval": ["eval", "m.gguf", "--reference", "m.gguf", "--text", "text.txt"],
}


@pytest.mark.parametrize("name", ENGINE)
def test_the_engine(name: str, without: Callable[[str], None], work: list[str], capsys: Output) -> None:
    without("llama_cpp")
    assert main(ENGINE[name]) == 1
    assert "there is no llama.cpp to run models with" in capsys.readouterr().err
    assert work == []


PICTURES = {
    "sensitivity": ["sensitivity", "m.gguf", "--report", "r.html"],
    "eval": ["eval", "m.gguf", "--reference", "m.gguf", "--text", "text.txt", "--plot", "p.png"],
    "imatrix show": ["imatrix", "show", "im.gguf", "--picture", "p.png"],
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(
    name: str, imatrix: Path, without: Callable[[str], None], work: list[str], capsys: Output
) -> None:
    without("matplotlib")
    assert main(PICTURES[name]) == 1
    assert "pictures need matplotlib; pip install matplotlib" in capsys.readouterr().err
    assert work == []


PLACES = {
    "sensitivity -o": (["sensitivity", "m.gguf", "-o", "no/s.jsonl"], "can't write no/s.jsonl.journal"),
    "sensitivity --work-dir": (
        ["sensitivity", "m.gguf", "--text", "text.txt", "--work-dir", "no"],
        "--work-dir DIR",
    ),
    "sensitivity --report": (
        ["sensitivity", "m.gguf", "--report", "no/r.html"],
        "the folder no doesn't exist",
    ),
    "fit -o": (["fit", "m.gguf", "--bpw", "5", "-o", "no/r.yaml"], "the folder no doesn't exist"),
    "fit --work-dir": (
        ["fit", "m.gguf", "--bpw", "5", "--verify", "text.txt", "--work-dir", "no"],
        "--work-dir",
    ),
    "eval --plot": ([*PICTURES["eval"][:-1], "no/p.png"], "the folder no doesn't exist"),
    "eval --save-reference": ([*PICTURES["eval"][:-2], "--save-reference", "taken"], "taken exists"),
    "eval FILE": (["eval", "taken", "--reference", "m.gguf", "--text", "text.txt"], "is no GGUF file"),
    "imatrix show": (["imatrix", "show", "im.gguf", "--picture", "no/p.png"], "the folder no doesn't exist"),
    "imatrix merge": (["imatrix", "merge", "taken", "im.gguf", "im.gguf", "--to", "dat"], "taken exists"),
    "imatrix convert": (["imatrix", "convert", "im.gguf", "no/im.dat"], "the folder no doesn't exist"),
    "import": (["import", "m.gguf", "-o", "taken"], "taken exists"),
    "export": (
        ["export", "llama.cpp/Q4_K_M", "--model", "m.gguf", "--to", "custom-q", "-o", "taken"],
        "taken exists",
    ),
    "lock": (["lock", "llama.cpp/Q4_K_M", "m.gguf", "-o", "no/a.lock"], "the folder no doesn't exist"),
    "ci --comment": (["ci", "--base", "main", "--comment", "no/c.md"], "the folder no doesn't exist"),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_to_write_to(name: str, imatrix: Path, work: list[str], capsys: Output) -> None:
    if "--report" in name or "picture" in str(PLACES[name]) or "--plot" in name:
        pytest.importorskip("matplotlib")
    arguments, message = PLACES[name]
    assert main(arguments) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert work == []
    assert not any(Path().glob("*.journal"))


def broken(*args: Any, **more: Any) -> bytes:
    raise OutputError("the disk is full")


def test_a_measurement_is_shown_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("quantrecipe.cli.sensitivity.report.write_report", broken)
    assert main(["sensitivity", "m.gguf", "--types", "Q8_0", "--sample", "1", "--report", "r.html"]) == 1
    out, err = capsys.readouterr()
    assert "wrote m.sensitivity.jsonl" in out
    assert "ffn_down" in out
    assert "error: the disk is full" in err
    assert "what was found is complete, and the exit status is 1" in " ".join(err.split())


def test_statistics_are_shown_before_they_are_drawn(
    imatrix: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    pytest.importorskip("matplotlib")

    def crash(*args: Any, **more: Any) -> bytes:
        raise ValueError("no such font")

    monkeypatch.setattr("quantrecipe.cli.imatrix.energy_picture.draw", crash)
    assert main(["imatrix", "show", "im.gguf", "--picture", "p.png"]) == 1
    out, err = capsys.readouterr()
    assert "attn_q" in out
    assert "the picture can't be drawn: ValueError: no such font" in " ".join(err.split())


@pytest.mark.parametrize("name", ["m.gguf", "model.safetensors"])
@pytest.mark.parametrize(
    "line",
    [
        "lock llama.cpp/Q4_K_M m.gguf -o {}",
        "export llama.cpp/Q4_K_M --model m.gguf --to llama-quantize -o {} --force",
        "fit m.gguf --bpw 6 --prior -o {} --force",
        "import m.gguf --infer -o {} --force",
    ],
)
def test_a_model_is_never_replaced_by_a_text(line: str, name: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = (tmp_path / name).read_bytes()
    assert main(["--no-plugins", *line.format(name).split()]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{name} is a model or a matrix, and isn't replaced by something else; name another file" in said
    assert (tmp_path / name).read_bytes() == before
