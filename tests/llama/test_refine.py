"""Statistics in stages by the real llama.cpp, beside those of a file that has the same weights; layers that lose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from quantrecipe.calibration.gram import Grams, read_gram
from quantrecipe.calibration.gram.folder import write_array, write_index
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


def misled(grams: Grams, layer: str, folder: Path) -> Grams:
    """The same statistics, but those of a layer are of inputs that go together as the model's don't."""
    folder.mkdir()
    rng, inputs = np.random.default_rng(0), []
    for entry in grams.index.inputs:
        gram = grams[entry.name]
        if entry.name.startswith(layer):
            x = rng.standard_normal((2 * entry.columns, 8)) @ rng.standard_normal((8, entry.columns))
            gram = (x.T @ x + np.eye(entry.columns)).astype(np.float32)
        triangle = gram[np.triu_indices(entry.columns)]
        digest = write_array(folder, entry.name, entry.columns, 1, [triangle])
        inputs.append(replace(entry, digest=digest))
    write_index(folder, replace(grams.index, digest=folder.name, inputs=tuple(inputs)))
    return read_gram(folder)


def test_a_layer_with_misleading_statistics_is_made_plain(tmp_path: Path) -> None:
    """Its error is the least on inputs that it never gets. The others keep what they gain."""
    model, mix, out = tmp_path / "model.gguf", tmp_path / "mine.yaml", tmp_path / "out.gguf"
    mix.write_text(RECIPE, encoding="utf-8")
    run("apply", "llama.cpp/BF16", ROOT / "examples/tiny-code", "-o", model)
    run("imatrix", "compute", model, *READ, "--gram", tmp_path / "grams", "-o", tmp_path / "m.gguf")
    grams = misled(read_gram(tmp_path / "grams"), "blk.2.", tmp_path / "misled")
    arguments = [
        "apply",
        mix,
        model,
        "--statistics",
        grams.folder,
        "--verify",
        TEXT,
        "--verify-layers",
        "--json",
    ]
    result = CliRunner().invoke(app, ["--no-plugins", *map(str, arguments), "-o", str(out)])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["verified"]
    assert [it["layer"] for it in told["layers"] if it["lost"]] == [2]
    assert told["kept"] == "encoder in part"
    assert told["in_part_kld_mean"] < told["kld_mean"] < told["plain_kld_mean"]
    run("verify", out, "--source", model, "--statistics", grams.folder)
