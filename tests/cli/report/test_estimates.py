"""Estimates: what counts as lost, what stands for many, and that nothing is below the best mixes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.report.estimates import best_mixes, estimate_of, stock_mixes
from quantrecipe.cli.report.subject import Subject, subject_of_file, subject_of_plan
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity.prior import estimate

REGISTRY = load_registry()
INPUTS = PlanInputs(registry=REGISTRY)


@pytest.fixture(autouse=True)
def few_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["llama.cpp/Q2_K", "llama.cpp/Q4_K", "llama.cpp/Q4_K_M", "llama.cpp/Q8_0", "llama.cpp/MXFP4_MOE"]
    names += ["llama.cpp/COPY", "llama.cpp/F16", "pure/Q6_K"]
    monkeypatch.setattr("quantrecipe.cli.report.estimates.shipped_recipes", lambda registry: names)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("dense") / "model.gguf"
    return open_model(write_gguf(path, llama_tensors(layers=2)), registry=REGISTRY)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose experts are tensors of their own, as Mixtral's first files had them."""
    tensors = llama_tensors(layers=2)
    for layer in (0, 1):
        for expert in range(5):
            tensors[f"blk.{layer}.ffn_up.{expert}.weight"] = np.ones((128, 256), np.float32)
    path = tmp_path_factory.mktemp("apart") / "model.gguf"
    return open_model(write_gguf(path, tensors), registry=REGISTRY)


def planned(model: Model, recipe: str = "llama.cpp/Q4_K_M") -> Subject:
    return subject_of_plan("mine", load_recipe(recipe), model, INPUTS)


def test_mixes_are_those_that_change_something_each_once(dense: Model) -> None:
    """Of two names, the one that says itself what it does; without experts, MXFP4_MOE is Q8_0."""
    assert [mix.name for mix in stock_mixes(dense, REGISTRY, None)] == ["Q2_K", "Q4_K_M", "Q8_0"]


@pytest.mark.parametrize("which", ["dense", "apart"])
def test_a_mix_is_its_plan(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    known = estimate(model, REGISTRY)
    for mix in stock_mixes(model, REGISTRY, None):
        matrix = assumed_importance(model.tensors)
        recipe = load_recipe(f"llama.cpp/{mix.name}")
        plan = make_plan(recipe, model, registry=REGISTRY, importance=matrix, provenance=False)
        quantized = {a.tensor.name: a.type for a in plan.assignments if a.type != "F32"}
        assert mix.bits_per_weight == pytest.approx(plan.bits_per_weight)
        assert mix.loss == pytest.approx(sum(known.cost(name, it) or 0 for name, it in quantized.items()))
        assert mix.quantized == quantized.keys()
        if which == "dense":
            assert mix.nbytes == plan.nbytes
        else:  # one tensor in place of many takes less of the header alone
            assert plan.nbytes - plan.files[0].header < mix.nbytes < plan.nbytes


def test_an_estimate_is_the_sum_of_its_tensors(apart: Model) -> None:
    subject = planned(apart)
    found = estimate_of(subject, REGISTRY, None)
    known = estimate(apart, REGISTRY)
    assert found.prior
    assert found.losses.keys() == {it for it, fate in subject.side.tensors.items() if fate.type != "F32"}
    for name, loss in found.losses.items():
        assert loss == pytest.approx(known.cost(name, subject.side.tensors[name].type)), name
    assert found.total == pytest.approx(sum(found.losses.values()))
    assert estimate_of(subject, REGISTRY, known).losses == pytest.approx(found.losses)
    assert not estimate_of(subject, REGISTRY, known).prior


@pytest.mark.parametrize("which", ["dense", "apart"])
@pytest.mark.parametrize("measured", [False, True])
def test_nothing_is_better_than_the_best_mixes(
    which: str, measured: bool, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    known = estimate(model, REGISTRY) if measured else None
    mixes = stock_mixes(model, REGISTRY, known)
    quantized = {name for mix in mixes for name in mix.quantized}
    points = best_mixes(planned(model), REGISTRY, known, quantized)
    assert all(a.nbytes < b.nbytes and a.cost > b.cost for a, b in pairwise(points))
    header = 20_000  # bytes that a plan's hashes take, and a mix hasn't
    for mix in mixes:
        reached = [it.cost for it in points if it.nbytes <= mix.nbytes + header]
        assert min(reached) <= mix.loss, mix.name
    q4 = next(mix for mix in mixes if mix.name == "Q4_K_M")
    near = min(points, key=lambda it: abs(it.nbytes - q4.nbytes))
    assert near.cost > q4.loss / 4  # and it isn't better by so much that something is left out


def test_many_alike_cost_as_much_as_each_by_itself(apart: Model) -> None:
    """What was measured is of each tensor, and isn't folded: the line begins and ends at the same mixes."""
    quantized = {name for mix in stock_mixes(apart, REGISTRY, None) for name in mix.quantized}
    subject = planned(apart)
    folded, each = (best_mixes(subject, REGISTRY, it, quantized) for it in (None, estimate(apart, REGISTRY)))
    assert len(folded) < len(each)
    for place in (0, -1):
        assert folded[place].nbytes == each[place].nbytes
        assert folded[place].cost == pytest.approx(each[place].cost)


def test_what_is_as_it_was_published_loses_nothing(dense: Model) -> None:
    subject = planned(dense)
    name = "blk.0.ffn_up.weight"
    fate = subject.side.tensors[name]
    stored = replace(fate, type="MXFP4", tensor=replace(fate.tensor, dtype="MXFP4"))
    side = replace(subject.side, tensors={**subject.side.tensors, name: stored})
    folder = replace(dense, container="huggingface")
    assert name not in estimate_of(replace(subject, side=side, model=folder), REGISTRY, None).losses
    # In a GGUF of a llama it was made of floats.
    assert estimate_of(replace(subject, side=side), REGISTRY, None).losses[name] > 0


def test_types_that_nobody_knows_count_nothing_and_are_told_of(dense: Model) -> None:
    subject = planned(dense)
    name = "blk.0.ffn_up.weight"
    strange = replace(subject.side.tensors[name], type="Q99_X")
    side = replace(subject.side, tensors={**subject.side.tensors, name: strange})
    found = estimate_of(replace(subject, side=side), REGISTRY, None)
    assert found.unknown == (name,)
    assert name not in found.losses


def test_pruned_layers_keep_what_was_measured_of_them(tmp_path: Path) -> None:
    model = open_model(
        write_gguf(tmp_path / "m.gguf", llama_tensors(layers=3), llama_metadata(block_count=3))
    )
    (tmp_path / "pruned.yaml").write_text("quantrecipe: 1\nextends: llama.cpp/Q8_0\nprune: 0\n")
    subject = planned(model, str(tmp_path / "pruned.yaml"))
    known = estimate(model, REGISTRY)
    old = known.tensors["blk.1.attn_q.weight"]
    measured = replace(known, tensors={**known.tensors, old.name: replace(old, alpha=9.0)})
    found = estimate_of(subject, REGISTRY, measured)
    assert found.losses["blk.0.attn_q.weight"] == pytest.approx(9.0 * old.losses["Q8_0"].error)


def test_a_file_is_what_it_holds(dense: Model) -> None:
    subject = subject_of_file("model.gguf", dense, INPUTS)
    assert subject.plan is None
    assert {fate.type for fate in subject.side.tensors.values()} == {"BF16", "F32"}
    assert estimate_of(subject, REGISTRY, None).total == 0
    assert estimate_of(planned(dense, "llama.cpp/F16"), REGISTRY, None).total == 0
