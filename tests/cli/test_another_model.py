"""Importance matrices of another model, which every command that takes one refuses in the same way."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from support.imatrix_files import with_provenance, write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.cli.app import COMMANDS
from quantrecipe.cli.lazy_group import load_command
from quantrecipe.importance.provenance import Provenance
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.open_model import open_model

INSIST = "--imatrix-of-another-model"
Output = pytest.CaptureFixture[str]

LINES = {
    "plan": "plan llama.cpp/Q4_K_M model.gguf",
    "apply": "apply llama.cpp/Q4_0 model.gguf -o out.gguf --force",
    "lock": "lock llama.cpp/Q4_K_M model.gguf",
    "explain": "explain llama.cpp/Q4_K_M model.gguf attn_v",
    "diff": "diff llama.cpp/Q4_K_M llama.cpp/Q4_K_S --model model.gguf",
    "export": "export llama.cpp/Q4_K_M --model model.gguf --to llama-quantize",
    "fit": "fit model.gguf --bpw 6 --prior",
    "sensitivity": "sensitivity model.gguf --types Q4_0 --sample 256 --threads 1 -o out.jsonl",
    "report": "report llama.cpp/Q4_K_M model.gguf -o report.html --force",
    "studio": "studio model.gguf --no-browser",
    "advise": "advise model.gguf llama.cpp/Q4_K_M --no-gpu --ram 1GiB",
}
"""A line for each command that takes a matrix for a model; verify holds it against what the file records instead, and
eval, refine and damping, which need an engine, have their own tests."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the current folder, its own matrix, one that states another, and one that states nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quantrecipe.studio.server.serve", lambda *asked: None)  # it would go on until Ctrl-C
    tensors = llama_tensors(layers=1)
    model = open_model(write_gguf(tmp_path / "model.gguf", tensors, llama_metadata(block_count=1)))
    silent = write_gguf_imatrix(
        tmp_path / "silent.gguf",
        {
            name: (np.ones((1, values.shape[1]), np.float32), [8.0])
            for name, values in tensors.items()
            if values.ndim > 1 and name != "token_embd.weight"
        },
    )
    own = fingerprint(model)
    other = f"v1:{own.structure}:{'0' * 32}"
    with_provenance(silent, Provenance(fingerprint=str(own)), tmp_path / "own.gguf")
    with_provenance(silent, Provenance(fingerprint=other), tmp_path / "other.gguf")
    return tmp_path


def options_of(name: str) -> set[str]:
    command = load_command("quantrecipe.cli.", name)
    return {spelling for it in command.params if isinstance(it, click.Option) for spelling in it.opts}


def test_every_command_that_takes_a_matrix_is_tried_here() -> None:
    taking = {name for name in COMMANDS if "--imatrix" in options_of(name)}
    assert taking == LINES.keys() | {"verify", "eval", "refine", "damping"}
    assert {name for name in COMMANDS if INSIST in options_of(name)} == LINES.keys() | {
        "eval",
        "refine",
        "damping",
    }


@pytest.mark.parametrize("name", LINES)
def test_is_refused_unless_somebody_insists(name: str, folder: Path, capsys: Output) -> None:
    line = LINES[name].split()
    assert main([*line, "--imatrix", "other.gguf"]) == 1
    captured = capsys.readouterr()
    said = " ".join((captured.err + captured.out).split())
    assert "other.gguf: is the importance matrix of another model than model.gguf" in said
    assert not list(folder.glob("out.*"))
    for allowed in (["--imatrix", "other.gguf", INSIST], ["--imatrix", "own.gguf"]):
        assert main([*line, *allowed]) == 0
        assert "another model" not in capsys.readouterr().err


def test_a_recipe_s_own_matrix_is_asked_too(folder: Path, capsys: Output) -> None:
    (folder / "mine.yaml").write_text(
        "quantrecipe: 1\nname: mine\ndefault: Q4_K\nimportance: {file: other.gguf}\n"
    )
    assert main(["plan", "mine.yaml", "model.gguf"]) == 1
    assert "other.gguf: is the importance matrix of another model" in " ".join(
        capsys.readouterr().err.split()
    )
    assert main(["plan", "mine.yaml", "model.gguf", INSIST]) == 0


def test_apply_warns_in_a_line_of_one_that_does_not_say(folder: Path, capsys: Output) -> None:
    for matrix, warnings in (("silent.gguf", 1), ("own.gguf", 0)):
        assert main([*LINES["apply"].split(), "--imatrix", matrix]) == 0
        found = [line for line in capsys.readouterr().err.splitlines() if "which model" in line]
        assert found == [f"warning: {matrix} doesn't say which model it is of"] * warnings
    assert main(["plan", "llama.cpp/Q4_0", "model.gguf", "--imatrix", "silent.gguf"]) == 0
    assert "which model" not in capsys.readouterr().err
