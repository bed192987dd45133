"""Dampings that are found by measurement, with memory of ours in llama.cpp's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from support.exchanged import Exchanged
from support.gram_statistics import write_statistics
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.calibration.gram import Grams
from quantrecipe.errors import PlanError
from quantrecipe.evaluate import Positions
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import EncoderChoice, Recipe
from quantrecipe.refine import damped_recipe, damping, find_dampings, groups_of
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
FEEDBACK = EncoderChoice(name="feedback")
MIX = recipe(default="Q4_0", encoder=FEEDBACK)
Q, DOWN = "blk.0.attn_q.weight", "blk.0.ffn_down.weight"
TRIED = (0.01, 0.1, 1.0)


class Runs:
    """In the place of a session: what it says depends on the damping with which each tensor was written.

    losses: by tensor and damping, what it adds to the mean divergence; None: what is predicted
    seen:   at each run, the damping that each tensor had
    """

    def __init__(self, plan: Plan, grams: Grams, losses: dict[str, dict[float | None, float]]) -> None:
        self.losses, self.seen, self.noise = losses, list[dict[str, float | None]](), 0.0
        self._made = dict[tuple[str, bytes], float | None]()
        weights = llama_tensors(layers=1)
        for a in plan.assignments:
            for option in (*TRIED, None) if a.tensor.name in losses else ():
                encoder = REGISTRY.encoder("feedback").with_options(
                    {} if option is None else {"damping": option, "by": "column"}
                )
                statistics = damping_statistics(grams, a.tensor.name)
                rows = weights[a.tensor.name]
                rows = (rows.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # as BF16 has them
                data = encoder.encode(rows, a.format, prepared=encoder.prepare(statistics, fmt=a.format))
                held = REGISTRY.format(a.tensor.dtype).encode(a.format.decode(data, a.tensor.cols))
                self._made[a.tensor.name, held.tobytes()] = option

    def __call__(self, path: Path, **_: Any) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def make_reference(self, session: object, texts: object, path: Path, **_: Any) -> str:
        return "reference"

    def score(self, session: object, reference: str) -> Positions:
        now = {name: self._of(name) for name in self.losses}
        self.seen.append(now)
        mean = 1.0 + sum(self.losses[name][option] for name, option in now.items())
        spread = np.random.default_rng(len(self.seen)).standard_normal(400) * self.noise
        ones = np.ones(400)
        divergence = mean + spread - spread.mean()
        return Positions(cost=ones, reference_cost=ones, divergence=divergence, agrees=ones)

    def _of(self, name: str) -> float | None:
        memory = Exchanged.memory[name]
        (found,) = (
            it
            for (of, data), it in self._made.items()
            if of == name and memory[: len(data)].tobytes() == data
        )
        return found


def damping_statistics(grams: Grams, name: str) -> Any:
    from quantrecipe.plan.statistics import input_statistics

    return input_statistics(grams, name, 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    Exchanged.clear()
    return write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))


@pytest.fixture
def grams(tmp_path: Path) -> Grams:
    return write_statistics(tmp_path, {Q: (256, (900,)), DOWN: (512, (900,))})


def planned(source: Path, grams: Grams | None, mix: Recipe = MIX) -> Plan:
    return make_plan(mix, open_model(source, registry=REGISTRY), registry=REGISTRY, statistics=grams)


def found(
    source: Path, grams: Grams, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> list[damping.DampedGroup]:
    monkeypatch.setattr(damping, "Session", runs)
    monkeypatch.setattr(damping, "find_engine", lambda engine: engine)
    monkeypatch.setattr(damping, "Exchange", Exchanged)
    monkeypatch.setattr(damping, "make_reference", runs.make_reference)
    monkeypatch.setattr(damping, "score", runs.score)
    plan = planned(source, grams)
    return find_dampings(plan, source, [], folder=source.parent, registry=REGISTRY, dampings=TRIED, threads=2)


LOSSES: dict[str, dict[float | None, float]] = {
    Q: {None: 0.5, 0.01: 0.6, 0.1: 0.3, 1.0: 0.7},
    DOWN: {None: 0.2, 0.01: 0.3, 0.1: 0.4, 1.0: 0.5},
}


def test_each_group_is_tried_behind_what_was_chosen_before(
    source: Path, grams: Grams, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(planned(source, grams), grams, LOSSES)
    attention, feed_forward = found(source, grams, runs, monkeypatch)
    assert [(it[Q], it[DOWN]) for it in runs.seen] == [
        (None, None),
        *((it, None) for it in TRIED),
        *((0.1, it) for it in TRIED),
    ]
    assert (attention.kind, attention.damping) == ("attention", 0.1)
    assert (feed_forward.kind, feed_forward.damping) == ("feed-forward", None)
    assert [it.kld_mean for it in attention.tried] == pytest.approx([1.7, 1.8, 1.5, 1.9])
    assert [it.kld_mean for it in feed_forward.tried] == pytest.approx([1.5, 1.6, 1.7, 1.8])
    assert attention.tried[2].change == pytest.approx(-0.2 / 1.7)


def test_what_isn_t_surely_better_is_left_to_the_prediction(
    source: Path, grams: Grams, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(planned(source, grams), grams, LOSSES)
    runs.noise = 1.4  # a standard error of 0.1 of each difference, so that the 0.2 of q are two
    groups = found(source, grams, runs, monkeypatch)
    assert [it.damping for it in groups] == [None, None]
    assert groups[0].tried[2].change / groups[0].tried[2].error == pytest.approx(-2, abs=0.3)


def test_the_recipe_has_a_rule_for_what_was_chosen(
    source: Path, grams: Grams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "quantrecipe: 1\ndefault: Q4_0\nencoder: feedback\n", encoding="utf-8"
    )
    runs = Runs(planned(source, grams), grams, LOSSES)
    groups = found(source, grams, runs, monkeypatch)
    text = damped_recipe("mine.yaml", "damped", planned(source, grams), groups)
    assert "encoder: {name: feedback, damping: 0.1, by: column}" in text
    (tmp_path / "damped.yaml").write_text(text, encoding="utf-8")
    plan = planned(source, grams, load_recipe(tmp_path / "damped.yaml", registry=REGISTRY))
    made = {a.tensor.name: a for a in plan.assignments}
    before = {a.tensor.name: a for a in planned(source, grams).assignments}
    assert {name: a.type for name, a in made.items()} == {name: a.type for name, a in before.items()}
    assert made[Q].encoder is not None
    assert made[Q].encoder.options["damping"] == 0.1
    assert made[DOWN].encoding == before[DOWN].encoding
    assert "attention: mean KLD -11.8 ± 0.0 % beside the predicted damping" in made[Q].why


def test_nothing_chosen_is_a_recipe_without_rules(source: Path, grams: Grams) -> None:
    plan = planned(source, grams)
    text = damped_recipe("mine.yaml", "damped", plan, groups_of(plan))
    assert text.startswith("# No damping was surely better")
    assert "extends: mine.yaml" in text
    assert "rules" not in text


def test_groups_are_by_kind_and_type(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "e.gguf", llama_tensors(layers=2, experts=2))
    up, key = "blk.0.ffn_up_exps.weight", "blk.1.attn_k.weight"
    inputs = {Q: (256, (900,)), key: (256, (900,)), up: (256, (900, 900))}
    statistics = write_statistics(tmp_path, inputs, seed=3)
    mix = recipe(rule("attn_k", "Q8_0"), default="Q4_0", encoder=FEEDBACK)
    groups = groups_of(planned(source, statistics, mix))
    assert [(it.kind, it.type, [a.tensor.name for a in it.tensors]) for it in groups] == [
        ("attention", "Q4_0", [Q]),
        ("attention", "Q8_0", [key]),
        ("experts", "Q4_0", [up]),
    ]


def test_a_number_in_the_recipe_leaves_nothing_to_find(source: Path, grams: Grams) -> None:
    exact = EncoderChoice(name="feedback", options={"damping": 0.1})
    with pytest.raises(PlanError, match="without a number for the damping"):
        groups_of(planned(source, grams, recipe(default="Q4_0", encoder=exact)))
