"""Two files beside each other on held-out text, with llama.cpp's part played by figures that a test chooses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.gram_statistics import write_statistics
from support.models import llama_tensors, write_gguf
from support.recipes import recipe
from support.trial_figures import SCORED, Figures

from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.evaluate import Interval, Pair, Text
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.recipe.writing.without_encoders import without_encoders
from quantrecipe.refine import Trial, tried
from quantrecipe.refine import trial as trial_module
from quantrecipe.refine.trial import surely_better
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
Q = "blk.0.attn_q.weight"
TEXTS = [Text(name="held-out", data=b"text")]


@pytest.fixture
def plans(tmp_path: Path) -> tuple[Plan, Plan]:
    """With the encoder, and without."""
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)))
    mix = recipe(default="Q4_K", encoder=EncoderChoice(name="feedback"))
    grams = write_statistics(tmp_path / "grams", {Q: (256, (600,))})
    return (
        make_plan(mix, model, registry=REGISTRY, statistics=grams),
        make_plan(without_encoders(mix), model, registry=REGISTRY),
    )


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Figures]:
    made = Figures()
    monkeypatch.setattr(trial_module, "make_reference", made.make_reference)
    monkeypatch.setattr(trial_module, "score", made.score)
    yield made


def held(plans: tuple[Plan, Plan], folder: Path) -> tuple[Trial, bytes]:
    """The trial, and the file that it keeps."""
    with tried(*plans, TEXTS, folder=folder, registry=REGISTRY) as found:
        return found, found.file.read_bytes()


def test_the_encoder_s_file_where_it_is_surely_better(
    plans: tuple[Plan, Plan], figures: Figures, tmp_path: Path
) -> None:
    trial, data = held(plans, tmp_path)
    assert trial.better
    assert trial.plan is plans[0]
    assert data == apply_plan(plans[0], tmp_path / "o.gguf", registry=REGISTRY).path.read_bytes()
    assert figures.scored == ["encoded.gguf", "plain.gguf"]
    assert (trial.text, trial.positions) == ("held-out", 40 * SCORED)
    assert trial.to_json()["kept"] == "encoder"
    assert not list(tmp_path.glob(".quantrecipe-trial-*"))


@pytest.mark.parametrize("mean", [0.99, 1.5], ids=["can't be told", "worse"])
def test_plain_encoding_otherwise(
    plans: tuple[Plan, Plan], figures: Figures, tmp_path: Path, mean: float
) -> None:
    """Its file says nothing of an encoder, so that it can be verified without statistics."""
    figures.means["encoded.gguf"] = mean
    trial, data = held(plans, tmp_path)
    assert not trial.better
    assert trial.plan is plans[1]
    assert data == apply_plan(plans[1], tmp_path / "o.gguf", registry=REGISTRY).path.read_bytes()
    assert b"feedback" not in data
    assert trial.to_json()["kept"] == "plain"


def test_a_difference_below_the_engine_s_noise_is_none() -> None:
    known = Interval(value=-0.5, low=-0.6, high=-0.4)
    pair = Pair(
        kld_mean=known,
        kld_99=known,
        kld_999=known,
        perplexity=known,
        top1=known,
        verdict="better",
        text_needed=None,
    )
    assert surely_better(pair)
    assert not surely_better(replace(pair, verdict="noise"))
    assert not surely_better(replace(pair, kld_mean=Interval(value=-0.5)))
    assert not surely_better(replace(pair, kld_mean=replace(known, high=0.001)))


def test_too_little_text_is_told_before_anything_is_encoded(
    plans: tuple[Plan, Plan], figures: Figures, tmp_path: Path
) -> None:
    figures.chunks = 9
    with pytest.raises(EvaluationError, match="has 9 chunks or documents, and fewer than 10"):
        held(plans, tmp_path)
    assert figures.scored == []
    assert not list(tmp_path.glob(".quantrecipe-trial-*"))


def test_a_folder_that_can_t_be_written(plans: tuple[Plan, Plan], figures: Figures, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't make a temporary folder in"):
        held(plans, tmp_path / "nowhere")
