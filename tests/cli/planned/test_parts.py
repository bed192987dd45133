"""--mmproj and --mtp: other parts of a Hugging Face folder, each a GGUF of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recorded_architectures import write_recorded

from quantrecipe.cli import main
from quantrecipe.gguf.header import read_header

Output = pytest.CaptureFixture[str]


def test_a_projector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_recorded("qwen3vl", tmp_path)
    assert main(["plan", "llama.cpp/Q8_0", folder.name, "--mmproj", "--json"]) == 0
    planned = {tensor["name"]: tensor["type"] for tensor in json.loads(capsys.readouterr().out)["tensors"]}
    assert planned["v.patch_embd.weight"] == planned["v.position_embd.weight"] == "F32"
    assert planned["v.blk.0.attn_qkv.weight"] == "Q8_0"
    assert main(["apply", "llama.cpp/F16", folder.name, "--mmproj"]) == 0
    path = Path(f"mmproj-{folder.name}-F16.gguf")
    header = read_header(path)
    assert header.metadata["general.type"].decode() == "mmproj"
    assert {tensor.name for tensor in header.tensors} == set(planned)
    capsys.readouterr()
    assert main(["verify", str(path), "--source", folder.name, "--mmproj", "--all"]) == 0


def test_of_a_model_without(tmp_path: Path, capsys: Output) -> None:
    folder = write_recorded("llama3", tmp_path)
    assert main(["plan", "llama.cpp/F16", str(folder), "--mmproj"]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "a projector of the" in error
    assert "leave --mmproj and --mtp out" in error


@pytest.mark.parametrize("option", ["--mmproj", "--mtp"])
def test_of_a_gguf(option: str, tmp_path: Path, capsys: Output) -> None:
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=1), llama_metadata())
    assert main(["plan", "llama.cpp/F16", str(tmp_path / "model.gguf"), option]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "is no Hugging Face folder" in error
    assert f"leave {option} out" in error
