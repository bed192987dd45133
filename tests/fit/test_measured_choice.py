"""The choice by measurement with a model that is open: what is kept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import REGISTRY, StandIn

from quantrecipe import open_model
from quantrecipe.api import Executor
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Text
from quantrecipe.executors.local import Threads
from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.measured_choice import (
    Evaluations,
    measured_choice,
    require_length,
    require_other_text,
)
from quantrecipe.fit.reach import Goal
from quantrecipe.fit.stock import recipe_like
from quantrecipe.fit.tried import Effort
from quantrecipe.measure import Measurement, Passes, Subject, measure
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Silent
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.sensitivity import Sensitivity

TEXT = Text(name="search.txt", data=b"words " * 2000)
PASSES = Passes(texts=(TEXT,), tokens=16384, threads=1, resident="F32")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    standing = StandIn()
    standing.hard = np.random.default_rng(3).uniform(0.5, 1.5, standing.chunks)
    standing.install(monkeypatch)
    return standing


class Case:
    def __init__(self, folder: Path) -> None:
        path = write_gguf(folder / "model.gguf", llama_tensors(layers=2), llama_metadata(block_count=2))
        model = open_model(path, registry=REGISTRY)
        self.subject = Subject(model=model, registry=REGISTRY, importance=None)
        self.folder = folder
        self.out = folder / "model.evaluations.jsonl"
        analysis = REGISTRY.tensor_analysis("error")
        types = ("Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
        self.known: Sensitivity = measure(
            model,
            folder / "s.jsonl",
            Measurement(types=types, analysis=analysis, threads=1),
            registry=REGISTRY,
        )
        budget = Budget(origin=Origin(file="test", line=0), bpw=4.8)
        stock = {name: recipe_like(name, REGISTRY) for name in ("Q3_K_M", "Q4_K_S")}
        request = Request(name="found", budget=budget, types=types)
        self.fitted: Fitted = fit(model, request, REGISTRY, sensitivity=self.known, stock=stock)

    def choose(
        self, evaluations: int = 12, goal: Goal | None = None, executor: Executor | None = None
    ) -> Fitted:
        return measured_choice(
            self.fitted,
            self.subject,
            replace(PASSES, executor=executor),
            Effort(evaluations=evaluations),
            sensitivity=self.known,
            out=self.out,
            work=self.folder,
            progress=Silent(),
            goal=goal,
        )

    def mixes(self) -> list[Any]:
        """Those that are kept."""
        lines = map(json.loads, self.out.read_text(encoding="utf-8").splitlines())
        return [line["mix"] for line in lines if "mix" in line]


@pytest.fixture
def case(tmp_path: Path, engine: StandIn) -> Case:
    return Case(tmp_path)


def test_mixes_are_tried_and_kept_for_other_runs(case: Case, engine: StandIn) -> None:
    found = case.choose()
    assert found.search is not None
    assert 5 < len(found.search.tried) <= 12
    assert len(engine.files) == 1  # one model, opened once
    runs = len(engine.runs)
    lines = [json.loads(line) for line in case.out.read_text(encoding="utf-8").splitlines()]
    assert len([line for line in lines if "mix" in line]) == runs - 1
    again = case.choose()
    assert len(engine.runs) == runs and len(engine.files) == 1
    assert again.text == found.text
    assert not list(case.folder.glob(".quantrecipe*"))


def test_several_at_once_are_kept_for_any_number_of_workers(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in is for one worker, which is given three mixes in each step."""
    first = case.choose(1).search
    assert first is not None
    goal = Goal(key="kld", most=1.5 * first.kld)
    asked: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(Evaluations, "at_once", lambda self: 3)
        real = Prober.expect_mixes

        def expect(self: Prober, plans: Iterable[tuple[Plan, str]]) -> None:
            real(self, found := list(plans))
            asked.append(len(found))

        patched.setattr(Prober, "expect_mixes", expect)
        found = case.choose(12, goal, Threads({"workers": 1}))
        assert max(asked) == 3
        assert found.search is not None
        assert found.search.value is not None and found.search.value <= goal.most
        assert found.plan.nbytes < case.fitted.plan.nbytes
        kept = case.mixes()
        again = case.choose(12, goal, Threads({"workers": 1}))
    assert again.text == found.text
    assert case.mixes() == kept
    alone = case.choose(12, goal)
    assert case.mixes()[: len(kept)] == kept
    assert found.plan.nbytes <= 1.002 * alone.plan.nbytes


def test_what_is_said_is_what_the_engine_says(case: Case, engine: StandIn) -> None:
    found = case.choose(3)
    assert found.search is not None
    exact = engine.runs[0]
    off = whole = 0.0
    for name, data in exact.items():
        before, after = (values.view(np.float32).astype(float) for values in (data, engine.runs[1][name]))
        off, whole = off + np.square(after - before).sum(), whole + np.square(before).sum()
    first = found.search.tried[0]
    assert first.kld == pytest.approx(off / whole * engine.hard.mean(), rel=1e-6)


def test_an_engine_that_dies_says_how_to_go_on(case: Case, engine: StandIn) -> None:
    engine.dies_after = 4
    with pytest.raises(
        EvaluationError, match=r"llama.cpp has ended; look at its log; what was evaluated is kept"
    ) as e:
        case.choose()
    assert "model.evaluations.jsonl; the same command goes on from there" in str(e.value)
    engine.dies_after = None
    runs = len(engine.runs)
    found = case.choose()
    assert found.search is not None
    # The model itself is read again, and the three mixes of before aren't.
    assert len(engine.runs) - runs == 1 + len({tried.what for tried in found.search.tried}) - 3


def test_an_engine_that_dies_at_once_has_nothing_to_keep(case: Case, engine: StandIn) -> None:
    engine.dies_after = 0
    with pytest.raises(EvaluationError) as e:
        case.choose()
    assert "is kept" not in str(e.value)


def test_too_few_chunks(case: Case, engine: StandIn) -> None:
    engine.chunks = 9
    with pytest.raises(EvaluationError, match="the search text has 9 chunks") as e:
        case.choose()
    assert "is kept" not in str(e.value)


@pytest.mark.parametrize("held", [TEXT.data, TEXT.data[:600], b"more " + TEXT.data])
def test_a_held_out_text_that_was_searched_on(held: bytes) -> None:
    with pytest.raises(EvaluationError, match=r"held.txt of --verify is in search.txt of --text"):
        require_other_text([TEXT], [Text(name="held.txt", data=held)])


def test_another_text_is_fine() -> None:
    require_other_text([TEXT], [Text(name="held.txt", data=b"something else" * 10)])
    require_other_text([], [TEXT])


def test_what_can_t_have_ten_chunks() -> None:
    with pytest.raises(EvaluationError, match=r"short.txt of --text is too short for ten chunks"):
        require_length([Text(name="short.txt", data=b"x" * 5119)], "--text")
    require_length([Text(name="a", data=b"x" * 5000), Text(name="b", data=b"x" * 120)], "--text")
