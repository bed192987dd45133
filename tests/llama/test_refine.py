"""Statistics in stages by the real llama.cpp, beside those of a file that has the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from quantrecipe.calibration.gram import Grams, read_gram
from quantrecipe.cli.app import app

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests/data/texts/code.val.txt"
RECIPE = "quantrecipe: 1\nname: mine\ndefault: Q4_0\nencoder: feedback\n"
READ = ("--text", str(TEXT), "--chunks", "16", "--context", "256")


def run(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, ["--no-plugins", *map(str, arguments)])
    assert result.exit_code == 0, result.output


def distance(one: Grams, other: Grams, name: str) -> float:
    """Of two matrices, beside the size of the second."""
    return float(np.linalg.norm(one[name] - other[name]) / np.linalg.norm(other[name]))


def test_inputs_are_those_of_a_file_whose_earlier_layers_are_quantized(tmp_path: Path) -> None:
    """What was written into the open model is what the file decodes to, so the next stage's first inputs are equal."""
    model, mix, out = tmp_path / "model.gguf", tmp_path / "mine.yaml", tmp_path / "out.gguf"
    mix.write_text(RECIPE, encoding="utf-8")
    run("apply", "llama.cpp/BF16", ROOT / "examples/tiny-code", "-o", model)
    run("refine", mix, model, *READ, "--stages", "2", "-o", out)
    run("apply", "llama.cpp/BF16", out, "--allow-requantize", "-o", tmp_path / "decoded.gguf")
    for name in ("model", "decoded"):
        gguf, matrix = tmp_path / f"{name}.gguf", tmp_path / f"{name}.imatrix.gguf"
        run("imatrix", "compute", gguf, *READ, "--gram", tmp_path / name, "-o", matrix)
    staged, original, decoded = (read_gram(tmp_path / it) for it in ("out.statistics", "model", "decoded"))
    for name in ("blk.0.attn_q.weight", "blk.2.attn_q.weight"):
        assert distance(staged, decoded, name) < 1e-5
        assert distance(staged, original, name) > 1e-3
    # Inputs of one stage don't see each other's errors.
    assert distance(staged, decoded, "blk.3.ffn_down.weight") > 1e-3
