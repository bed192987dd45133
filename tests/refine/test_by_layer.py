"""Single layers beside each other, with llama.cpp's part played by weights in memory and chosen figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gram_statistics import write_statistics
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe
from support.resident_engine import OpenModel, Session, read_file
from support.trial_figures import SCORED, Figures

from quantrecipe.engine import EngineFacts
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Positions, Reference, Text
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.recipe.writing.without_encoders import with_plain_layers, without_encoders
from quantrecipe.refine import Trial, by_layer, tried
from quantrecipe.refine import trial as trial_module
from quantrecipe.refine.by_layer import encoded_layers
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
LAYERS = 3
MIX = recipe(default="Q4_K", encoder=EncoderChoice(name="feedback"))
TEXTS = [Text(name="held-out", data=b"text")]


class Layered(Figures):
    """A file's mean divergence is that of its layers together: what each gives with the encoder, and what plain.

    rivals: the plain file's tensors, which tell which layers of a model in memory are plain
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.plain = [0.2, 0.2, 0.2], [0.4, 0.4, 0.4]
        self.opened = list[OpenModel]()
        self.shown = list[set[int]]()

    def session(self, path: Path, *, writable: bool, **_: Any) -> Session:
        assert writable
        self.opened.append(OpenModel(path, ["blk.1.attn_k.weight"]))
        return Session(self.opened[-1], "", lambda: False)

    def score(self, file: Path | Session, reference: Reference, progress: Any = None, **_: Any) -> Positions:
        at = file.model.path if isinstance(file, Session) else file
        tensors = file.model.bytes if isinstance(file, Session) else read_file(file)[0]
        plain = read_file(at.with_name("plain.gguf"))[0]
        of = "blk.{}.attn_q.weight".format
        are_plain = {it for it in range(LAYERS) if np.array_equal(tensors[of(it)], plain[of(it)])}
        self.shown.append(are_plain)
        mean = sum(self.plain[it] if it in are_plain else self.encoder[it] for it in range(LAYERS))
        if progress is not None:
            progress(self.chunks, self.chunks)
        ones = np.ones(self.chunks * SCORED)
        spread = np.random.default_rng(len(self.shown)).exponential(1, len(ones))
        return Positions(cost=ones, reference_cost=ones, divergence=mean * (0.9 + 0.1 * spread), agrees=ones)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    tensors = llama_tensors(layers=LAYERS)
    model = open_model(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=LAYERS)))
    names = [f"blk.{number}.attn_{it}.weight" for number in range(LAYERS) for it in "qk"]
    grams = write_statistics(tmp_path / "grams", dict.fromkeys(names, (256, (600,))))
    return make_plan(MIX, model, registry=REGISTRY, statistics=grams)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layered]:
    made = Layered()
    monkeypatch.setattr(trial_module, "make_reference", made.make_reference)
    for module in (trial_module, by_layer):
        monkeypatch.setattr(module, "score", made.score)
    monkeypatch.setattr(by_layer, "Session", made.session)
    monkeypatch.setattr(trial_module, "find_engine", lambda named: named)
    facts = EngineFacts(engine=None, version="b1", devices=(), refused=(), sealed="")  # type: ignore[arg-type]
    monkeypatch.setattr(trial_module, "engine_facts", lambda engine: facts)
    yield made


def held(plan: Plan, folder: Path, told: Any = None) -> tuple[Trial, bytes]:
    def in_part(layers: Any) -> Plan:
        mix = with_plain_layers(MIX, layers)
        return make_plan(mix, plan.model, registry=REGISTRY, statistics=plan.statistics)

    plain = make_plan(without_encoders(MIX), plan.model, registry=REGISTRY)
    with tried(plan, plain, TEXTS, folder=folder, registry=REGISTRY, in_part=in_part) as found:
        return found, found.file.read_bytes()


def test_which_tensors_of_which_layers(plan: Plan) -> None:
    assert encoded_layers(plan) == {
        number: [f"blk.{number}.attn_k.weight", f"blk.{number}.attn_q.weight"] for number in range(LAYERS)
    }


def test_a_layer_that_loses_is_plain_in_the_end(plan: Plan, figures: Layered, tmp_path: Path) -> None:
    """Each is exchanged by itself. The file is that of the recipe which leaves the layer out."""
    figures.encoder[1] = 0.5
    trial, data = held(plan, tmp_path)
    assert figures.shown == [set(), {0, 1, 2}, set(), {0}, {1}, {2}, {1}]
    assert [(it.number, it.lost) for it in trial.layers] == [(0, False), (1, True), (2, False)]
    assert (trial.lost, trial.kept, trial.better) == ([1], "encoder in part", True)
    assert trial.in_part is not None
    assert trial.in_part < trial.encoded < trial.plain
    assert {a.tensor.layer for a in trial.plan.assignments if a.encoder is not None} == {0, 2}
    assert data == apply_plan(trial.plan, tmp_path / "o.gguf", registry=REGISTRY).path.read_bytes()
    assert trial.to_json()["kept"] == "encoder in part"
    # In the end memory is what the file has, and what the engine doesn't use was never written.
    (model,) = figures.opened
    assert set(model.written) == {
        f"blk.{it}.attn_{q}.weight" for it in range(LAYERS) for q in "qk" if (it, q) != (1, "k")
    }


def test_where_no_layer_loses_there_is_no_third_file(plan: Plan, figures: Layered, tmp_path: Path) -> None:
    trial, _ = held(plan, tmp_path)
    assert (trial.lost, trial.kept, trial.in_part) == ([], "encoder", None)
    assert len(figures.shown) == 2 + 1 + LAYERS


def test_plain_where_even_what_is_left_gains_nothing(plan: Plan, figures: Layered, tmp_path: Path) -> None:
    figures.encoder = [0.4, 0.9, 0.4]
    trial, data = held(plan, tmp_path)
    assert (trial.lost, trial.kept, trial.better) == ([1], "plain", False)
    assert b"feedback" not in data


def test_an_engine_that_can_t_exchange_weights(
    plan: Plan, figures: Layered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before anything takes long."""
    facts = EngineFacts(engine=None, version="b1", devices=(), refused=(), sealed="it is closed")  # type: ignore[arg-type]
    monkeypatch.setattr(trial_module, "engine_facts", lambda engine: facts)
    with pytest.raises(
        EvaluationError, match="single layers can't be judged: it is closed; leave --verify-layers"
    ):
        held(plan, tmp_path)
    assert figures.shown == []
