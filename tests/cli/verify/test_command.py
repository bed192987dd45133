"""quantrecipe verify: what a person sees, what a machine gets, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> Path:
    """A file and its source, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("model.gguf"), llama_tensors(layers=2), llama_metadata())
    assert main(["apply", "llama.cpp/Q4_K_M", "model.gguf", "-o", "made.gguf"]) == 0
    capsys.readouterr()
    return Path("made.gguf")


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_good_file(made: Path, capsys: Output) -> None:
    assert main(["verify", "made.gguf"]) == 0
    out = capsys.readouterr().out
    assert "made.gguf is what it says" in out
    assert main(["verify", "made.gguf", "--source", "model.gguf", "--all"]) == 0
    assert "21 of 21 tensors, quantized again" in capsys.readouterr().out


def test_a_flipped_byte(made: Path, capsys: Output) -> None:
    flip(made, made.stat().st_size - 40_000)
    assert main(["verify", "made.gguf"]) == 1
    out = capsys.readouterr().out
    assert "payload  WRONG" in out
    assert "made.gguf: blk.1." in out
    assert "made.gguf is not what it says: 1 finding," in out
    assert main(["verify", "made.gguf", "--source", "model.gguf"]) == 1
    assert "row " in capsys.readouterr().out


def test_json(made: Path, capsys: Output) -> None:
    assert main(["verify", "made.gguf", "--source", "model.gguf", "--sample", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert len(document["requantized"]) == 2
    assert {check["check"] for check in document["checks"]} == {
        *("header", "payload", "recipe", "types", "plan", "source", "bytes")
    }
    flip(made, made.stat().st_size - 40_000)
    assert main(["verify", "made.gguf", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["checks"][1]["findings"]
    assert finding["file"] == "made.gguf"
    assert finding["tensor"].startswith("blk.1.")


def test_a_file_that_says_nothing(made: Path, capsys: Output) -> None:
    assert main(["verify", "model.gguf"]) == 1
    assert "--source MODEL and --recipe RECIPE" in capsys.readouterr().err
    main(["apply", "llama.cpp/Q4_K_M", "model.gguf", "-o", "bare.gguf", "--no-provenance"])
    known = ["--source", "model.gguf", "--recipe", "llama.cpp/Q4_K_M", "--all"]
    assert main(["verify", "bare.gguf", *known]) == 0
    out = capsys.readouterr().out
    assert "bare.gguf is what the recipe makes of the source; not checked: " in out


def test_what_goes_together(made: Path, capsys: Output) -> None:
    assert main(["verify", "made.gguf", "--all"]) == 2
    assert main(["verify", "made.gguf", "--source", "model.gguf", "--all", "--sample", "3"]) == 2
    assert main(["verify", "nothing.gguf"]) == 1


def test_inspect_points_here(made: Path, capsys: Output) -> None:
    assert main(["inspect", "made.gguf"]) == 0
    assert "quantrecipe verify" in capsys.readouterr().out
