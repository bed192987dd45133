"""Gram matrices by the real llama.cpp, beside arithmetic and importance matrices of the same texts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from support.engine_jobs import engines
from support.gram_jobs import compute_grams
from support.huggingface import write_model
from support.latent_attention import write_latent_attention

from quantrecipe.calibration.collect import tokenize
from quantrecipe.calibration.gram import Grams, read_gram
from quantrecipe.cli.app import app
from quantrecipe.cli.progress import CalibrationBar
from quantrecipe.engine import Session
from quantrecipe.gguf.header import read_header
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.texts import read_domain, render

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests/data/texts/code.val.txt"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example; random weights with experts, and with latent attention."""
    folder = tmp_path_factory.mktemp("models")
    registry = load_registry(plugins=False)
    sources = {"tiny": ROOT / "examples/tiny-code"} | {
        name: write_model(name, folder) for name in ("mixtral", "qwen3moe")
    }
    for name, source in sources.items():
        model = open_model(source, registry=registry)
        plan = make_plan(load_recipe("llama.cpp/BF16", registry=registry), model, registry=registry)
        apply_plan(plan, folder / f"{name}.gguf", registry=registry)
    write_latent_attention(folder / "latent.gguf", folder / "tiny.gguf")
    return folder


def compute(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["--no-plugins", "imatrix", "compute", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("experts", ["shared", "each"])
@pytest.mark.parametrize(
    ("model", "context"), [("tiny", 512), ("mixtral", 128), ("qwen3moe", 128), ("latent", 128)]
)
def test_diagonals_are_what_the_importance_matrix_has(
    models: Path, tmp_path: Path, model: str, context: int, experts: str
) -> None:
    """Of all matrices, but of those of experts that share a matrix: these have the sum over experts."""
    out, folder = tmp_path / "m.gguf", tmp_path / "grams"
    compute(
        *(models / f"{model}.gguf", "--text", TEXT, "--context", str(context), "--chunks", "24", "-o", out),
        *("--output-tensor", "--gram", folder, "--gram-experts", experts, "--gram-layers", "1"),
    )
    grams = read_gram(folder)
    grams.verify()
    matrix = read_importance(out)
    assert matrix.entries.keys() == set(grams)
    for name, entry in matrix.entries.items():
        known = grams.entry(name)
        gram = grams[name]
        assert np.array_equal(gram, np.swapaxes(gram, -1, -2))
        diagonal = np.atleast_2d(np.diagonal(gram, axis1=-2, axis2=-1)).astype(np.float64)
        diagonal = diagonal * np.array(known.tokens)[:, None]
        sums = entry.sums.astype(np.float64).reshape(-1, known.columns)
        if experts == "shared" and "_exps" in name:
            sums = sums.sum(axis=0, keepdims=True)
            # Each token goes to as many experts, all of which get the same input.
            if "down" not in name:
                sums *= known.tokens[0] / sum(entry.counts)
        elif len(entry.counts) > 1:
            assert known.tokens == entry.counts
        assert np.abs(diagonal - sums).max() < 2e-6 * sums.max(), name


def test_the_input_of_the_first_layer_is_that_of_arithmetic(models: Path, tmp_path: Path) -> None:
    """It is the embedding of each token, normed: nothing else of llama.cpp is in it."""
    compute(
        *(models / "tiny.gguf", "--text", TEXT, "--chunks", "24", "-o", tmp_path / "m.gguf"),
        *("--gram", tmp_path / "grams"),
    )
    header = read_header(models / "tiny.gguf")
    metadata = header.metadata
    with Session(models / "tiny.gguf") as session:
        tokens = session.call(tokenize, render(read_domain(str(TEXT)), None))[0]
    chunks = tokens[: 24 * 512].reshape(24, 512).copy()
    if "tokenizer.ggml.add_bos_token" in metadata and metadata["tokenizer.ggml.add_bos_token"].decode():
        chunks[:, 0] = metadata["tokenizer.ggml.bos_token_id"].decode()
    rows = weights(models / "tiny.gguf", "token_embd.weight")[chunks.ravel()].astype(np.float64)
    epsilon = metadata["llama.attention.layer_norm_rms_epsilon"].decode()
    normed = rows / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + epsilon)
    normed *= weights(models / "tiny.gguf", "blk.0.attn_norm.weight")
    expected = normed.T @ normed / len(normed)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    for name in ("attn_q", "attn_k", "attn_v"):
        found = read_gram(tmp_path / "grams")[f"blk.0.{name}.weight"]
        assert (np.abs(found - expected) / scale).max() < 1e-6


def weights(path: Path, name: str) -> NDArray[np.float32]:
    header = read_header(path)
    entry = next(entry for entry in header.tensors if entry.name == name)
    dtype = np.uint16 if entry.ggml_type == 30 else np.float32
    raw = np.fromfile(path, dtype, int(np.prod(entry.shape)), offset=header.data_start + entry.offset)
    floats = (raw.astype(np.uint32) << 16).view(np.float32) if dtype is np.uint16 else raw
    return floats.reshape(entry.shape)


def test_domains_count_by_their_weights(models: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_bytes(b"short words, again and again. " * 400)
    texts = {"code": f"{TEXT}", "short": f"{tmp_path / 'short.txt'}"}
    alone: dict[str, Grams] = {}
    for name, text in texts.items():
        arguments = ("--text", text, "--chunks", "8", "-o", tmp_path / f"{name}.gguf")
        compute(models / "tiny.gguf", *arguments, "--gram", tmp_path / name)
        alone[name] = read_gram(tmp_path / name)
    compute(
        *(models / "tiny.gguf", "--chunks", "8", "-o", tmp_path / "both.gguf"),
        *("--text", f"code={texts['code']}:3", "--text", f"short={texts['short']}:1"),
        *("--gram", tmp_path / "both"),
    )
    both = read_gram(tmp_path / "both")
    for name in ("blk.0.attn_q.weight", "blk.2.ffn_down.weight"):
        expected = 0.75 * alone["code"][name] + 0.25 * alone["short"][name]
        assert np.allclose(both[name], expected, atol=1e-6 * np.abs(expected).max())
    assert both.entry("blk.0.attn_q.weight").tokens == (2 * 8 * 512,)


def test_a_second_command_finds_them_and_leaves_the_matrix(models: Path, tmp_path: Path) -> None:
    arguments = (
        *(models / "tiny.gguf", "--text", TEXT, "--chunks", "2", "-o", tmp_path / "m.gguf"),
        *("--gram", tmp_path / "grams"),
    )
    first = compute(*arguments, "--json")
    before = (tmp_path / "m.gguf").stat().st_mtime_ns
    again = compute(*arguments)
    said = " ".join(again.output.split())
    assert "all is there already, of this model and these texts" in said
    assert "m.gguf exists, and stays as it is" in said
    assert (tmp_path / "m.gguf").stat().st_mtime_ns == before
    document = json.loads(first.stdout)
    assert document["entries"] == 28
    assert len(document["gram"]["inputs"]) == 16
    assert document["gram"]["provenance"]["fingerprint"] == document["provenance"]["fingerprint"]
    assert document["gram"]["provenance"]["model"] == document["provenance"]["model"]


def test_a_killed_run_goes_on_and_gives_the_same_files(models: Path, tmp_path: Path) -> None:
    """Killed after its first files; the engine's process ends as soon as nobody listens."""
    arguments = [str(models / "tiny.gguf"), str(TEXT)]
    _, whole = compute_grams(*arguments, str(tmp_path / "whole"))
    code = "import sys; from support.gram_jobs import compute_grams; compute_grams(*sys.argv[1:4], layers=1)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, str(tmp_path / "killed")], env=environment
    )
    index = tmp_path / "killed" / whole.name / "index.json"
    deadline = time.monotonic() + 60
    while not index.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(json.loads(index.read_bytes())["inputs"])
    assert 0 < finished < 16, "it was killed too late to show anything"
    done, folder = compute_grams(*arguments, str(tmp_path / "killed"))
    assert done == finished, "it began anew"
    assert {path.name: path.read_bytes() for path in folder.glob("*.npy")} == {
        path.name: path.read_bytes() for path in whole.glob("*.npy")
    }


@pytest.mark.parametrize("model", ["tiny", "qwen3moe"])
def test_an_executor_s_files_are_the_same_whatever_dies(
    models: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of llama.cpp is killed when the first pass is finished, and a worker when the second one is."""
    arguments = (
        *(models / f"{model}.gguf", "--text", TEXT, "--context", "128", "--chunks", "16", "--output-tensor"),
        *("-o", tmp_path / "m.gguf", "--gram-experts", "each", "--gram-layers", "1"),
    )
    compute(*arguments, "--gram", tmp_path / "one")
    victims = ["worker", "engine"]
    real = CalibrationBar.read

    def read(self: Any, tokens: int) -> None:
        if victims and (found := engines()):
            process = min(found, key=lambda it: it.pid)
            with suppress(psutil.NoSuchProcess):  # it may have ended, as its worker was killed before
                (process.parent() if victims[-1] == "worker" else process).kill()
                victims.pop()
        real(self, tokens)

    monkeypatch.setattr(CalibrationBar, "read", read)
    by = ("--executor", "processes", "--executor-option", "workers=2")
    said = compute(*arguments, "--gram", tmp_path / "two", *by)
    assert "by 2 workers" in " ".join(said.output.split())
    assert victims == []
    first, second = (read_gram(tmp_path / name).folder for name in ("one", "two"))
    assert {it.name: it.read_bytes() for it in second.iterdir()} == {
        it.name: it.read_bytes() for it in first.iterdir()
    }
