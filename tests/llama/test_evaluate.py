"""Our figures beside those of llama-perplexity, on the same file, text and reference."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import (
    Evaluation,
    Reference,
    Text,
    evaluate,
    make_reference,
    read_text,
    score,
)
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plain_data import plain
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests/data/texts/code.val.txt"
BIN = os.environ.get("QUANTRECIPE_LLAMA_BIN", "")
CHUNKS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example model as BF16 and in two mixes."""
    folder = tmp_path_factory.mktemp("evaluate")
    registry = load_registry(plugins=False)
    model = open_model(ROOT / "examples/tiny-code", registry=registry)
    importance = read_importance(ROOT / "tests/data/imatrix/imatrix.code.gguf")
    for name in ("BF16", "Q4_K_M", "Q2_K"):
        plan = make_plan(
            load_recipe(f"llama.cpp/{name}", registry=registry),
            model,
            registry=registry,
            importance=None if name == "BF16" else importance,
        )
        apply_plan(plan, folder / f"{name}.gguf", registry=registry)
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return make_reference(folder / "BF16.gguf", read_text(TEXT), folder / "text.reference", chunks=CHUNKS)


@pytest.fixture(scope="module")
def logits(folder: Path) -> Path:
    """llama-perplexity's own reference."""
    path = folder / "theirs.logits"
    _run(folder / "BF16.gguf", "--kl-divergence-base", str(path), "-f", str(TEXT), "--chunks", str(CHUNKS))
    return path


@pytest.mark.skipif(
    not BIN, reason="QUANTRECIPE_LLAMA_BIN isn't set: .ci/run builds llama-perplexity and sets it"
)
@pytest.mark.parametrize("name", ["Q4_K_M", "Q2_K"])
def test_the_figures_are_llama_perplexity_s(
    name: str, folder: Path, reference: Reference, logits: Path
) -> None:
    theirs = _theirs(folder / f"{name}.gguf", logits)
    ours = evaluate(folder / f"{name}.gguf", reference)
    # What differs is the rounding of its 16-bit logits, the tail of ours, and the digits that it prints.
    assert ours.perplexity == pytest.approx(theirs["Mean PPL(Q)"][0], rel=1e-4)
    assert ours.perplexity_error == pytest.approx(theirs["Mean PPL(Q)"][1], rel=1e-3)
    assert ours.reference_perplexity == pytest.approx(theirs["Mean PPL(base)"][0], rel=1e-4)
    ratio, ratio_error = theirs["Mean ln(PPL(Q)/PPL(base))"]
    assert ours.log_ratio == pytest.approx(ratio, abs=ratio_error / 20)
    assert ours.log_ratio_error == pytest.approx(ratio_error, rel=0.01)
    mean, mean_error = theirs["Mean    KLD"]
    assert ours.kld_mean == pytest.approx(mean, abs=mean_error / 5)
    assert ours.kld_mean == pytest.approx(mean, rel=3e-3)
    assert ours.kld_mean_error == pytest.approx(mean_error, rel=0.02)
    for field, label in {
        "kld_median": "Median  KLD",
        "kld_90": "90.0%   KLD",
        "kld_95": "95.0%   KLD",
        "kld_99": "99.0%   KLD",
        "kld_999": "99.9%   KLD",
        "kld_max": "Maximum KLD",
    }.items():
        assert getattr(ours, field) == pytest.approx(theirs[label][0], rel=0.02, abs=2e-6), field
    assert 100 * ours.top1 == pytest.approx(theirs["Same top p"][0], abs=0.1)  # ties of its rounded logits
    assert 100 * ours.top1_error == pytest.approx(theirs["Same top p"][1], abs=0.02)
    assert 100 * ours.dp_rms == pytest.approx(theirs["RMS Δp"][0], abs=0.002)
    assert 100 * ours.dp_mean == pytest.approx(theirs["Mean    Δp"][0], abs=0.002)


def test_the_reference_beside_itself(folder: Path, reference: Reference) -> None:
    e = evaluate(folder / "BF16.gguf", reference)
    assert e.kld_max < 1e-5
    assert e.top1 == 1
    assert e.log_ratio == pytest.approx(0, abs=1e-6)


def test_a_whole_vocabulary_gives_the_same(folder: Path, reference: Reference) -> None:
    """What the tail of the compact form costs, on a trained model: a small part of the standard error."""
    whole = make_reference(
        folder / "BF16.gguf", read_text(TEXT), folder / "whole.reference", chunks=CHUNKS, tail=0
    )
    exact = evaluate(folder / "Q2_K.gguf", whole)
    ours = evaluate(folder / "Q2_K.gguf", reference)
    assert ours.kld_mean == pytest.approx(exact.kld_mean, rel=1.5e-3)
    assert abs(ours.kld_mean - exact.kld_mean) < exact.kld_mean_error / 8
    assert reference.path.stat().st_size < 0.7 * whole.path.stat().st_size


def test_texts_are_told_apart(folder: Path, reference: Reference) -> None:
    text = read_text(TEXT)
    other = type(text)(name="other", data=b"The quick brown fox. " * 400)
    both = make_reference(folder / "BF16.gguf", [text, other], folder / "both.reference", chunks=2)
    told: list[tuple[int, int]] = []
    positions = score(folder / "Q4_K_M.gguf", both, threads=1, progress=lambda *done: told.append(done))
    parts = both.split(positions)
    assert list(parts) == [text.name, "other"]
    assert [len(part) for part in parts.values()] == [2 * 255, 2 * 255]
    assert told == [(number, 4) for number in range(1, 5)]
    alone = score(folder / "Q4_K_M.gguf", reference)[: 2 * 255]
    assert parts[text.name].divergence == pytest.approx(alone.divergence, rel=1e-2, abs=1e-6)


def test_answers_alone_count(folder: Path) -> None:
    """Each position that counts has the figures that it has where all do."""
    data = read_text(TEXT).data[:30_000]
    answers = tuple((start, start + 400) for start in range(1000, len(data) - 400, 3000))
    text = Text(name="chats", data=data, answers=answers)
    some = make_reference(folder / "BF16.gguf", text, folder / "some.reference", noise_chunks=2)
    every = make_reference(folder / "BF16.gguf", Text(name="chats", data=data), folder / "every.reference")
    assert some.noise is not None
    assert 0 < some.noise.positions < 2 * 255
    assert some.noise.largest < 1e-6
    assert some.chunks < every.chunks  # those without an answer aren't run
    counted = score(folder / "Q2_K.gguf", some)
    assert len(counted) == some.positions < some.chunks * some.scored
    whole = score(folder / "Q2_K.gguf", every)
    chunks = [int((every.tokens == tokens).all(axis=1).argmax()) for tokens in some.tokens]
    mask = np.zeros((every.chunks, every.scored), bool)
    mask[chunks] = some.mask
    assert counted.divergence == pytest.approx(whole.divergence[mask.ravel()], rel=1e-2, abs=1e-6)
    assert counted.cost == pytest.approx(whole.cost[mask.ravel()], abs=1e-4)


def test_a_text_that_is_too_short(folder: Path) -> None:
    text = read_text(TEXT)
    short = type(text)(name="short", data=b"def f(): pass")
    with pytest.raises(
        EvaluationError, match=r"short has \d tokens, and a chunk takes 512; use a longer text"
    ):
        make_reference(folder / "BF16.gguf", short, folder / "short.reference")
    assert not (folder / "short.reference").exists()


def test_what_llama_cpp_can_t_load(folder: Path, reference: Reference) -> None:
    cut = folder / "cut.gguf"
    cut.write_bytes((folder / "Q4_K_M.gguf").read_bytes()[:-100_000])
    with pytest.raises(EvaluationError, match=r"cut\.gguf: llama\.cpp can't load it: .*bounds") as error:
        evaluate(cut, reference)
    assert "\n" not in str(error.value)


def test_another_vocabulary(folder: Path, reference: Reference, tmp_path: Path) -> None:
    """One token renamed that occurs in the text."""
    data = (folder / "BF16.gguf").read_bytes()
    other = tmp_path / "other.gguf"
    name = b"self"
    entry = len(name).to_bytes(8, "little") + name
    assert entry in data
    other.write_bytes(data.replace(entry, len(name).to_bytes(8, "little") + b"zelf", 1))
    with pytest.raises(EvaluationError, match=r"tokens of the text mean something else to it"):
        evaluate(other, reference)


def _theirs(model: Path, logits: Path) -> dict[str, tuple[float, float]]:
    """Its figures. On a busy machine it may end before its log is written, and then says nothing of them."""
    for _ in range(10):
        figures = _figures(_run(model, "--kl-divergence-base", str(logits), "--kl-divergence"))
        if "Same top p" in figures:
            return figures
    pytest.fail("llama-perplexity ends without its figures")


def _run(model: Path, *options: str) -> str:
    command = [str(Path(BIN) / "llama-perplexity"), "-m", str(model), "-c", "512", "-t", "2", *options]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout + done.stderr


def _figures(told: str) -> dict[str, tuple[float, float]]:
    """ "Mean    KLD:   0.002521 ±   0.000013" → {"Mean    KLD": (0.002521, 0.000013)}."""
    pattern = r"^\s*([^\n:]*?)\s*:\s*(-?[\d.]+)\s*%?(?:\s*±\s*([\d.]+))?"
    return {
        match[1]: (float(match[2]), float(match[3] or 0))
        for match in re.finditer(pattern, told, re.MULTILINE)
    }


def test_the_evaluation_is_plain_data(folder: Path, reference: Reference) -> None:
    e = evaluate(folder / "Q4_K_M.gguf", reference)
    assert isinstance(e, Evaluation)
    assert plain(e)["kld_mean"] == e.kld_mean
