"""Probes by workers of an executor: what they find, and what is kept of it, is what one process finds."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import REGISTRY, StandIn

from quantrecipe import open_model
from quantrecipe.api import Order, Task, Workers
from quantrecipe.errors import EvaluationError, ModelError, OutputError, SensitivityError
from quantrecipe.evaluate import Text
from quantrecipe.executors.local import Threads
from quantrecipe.executors.thread_workers import ThreadWorkers
from quantrecipe.measure import Passes
from quantrecipe.measure.by_executor import open_prober
from quantrecipe.measure.mixed import Mixed
from quantrecipe.measure.open_resident import ResidentInSession
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Silent
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.sensitivity import Probed

TEXT = Text(name="text.txt", data=b"some words")
VALUES, QUERIES = "blk.0.attn_v.weight", "blk.1.attn_q.weight"
ASKS: tuple[tuple[Mapping[str, str], int | None], ...] = (
    ({VALUES: "Q4_0"}, None),
    ({VALUES: "Q4_0"}, 2),
    ({VALUES: "Q2_K", QUERIES: "Q4_K"}, None),
    ({QUERIES: "Q3_K"}, 1),
)


class Noted(Threads):
    """Notes the orders that workers were opened from. The stand-in is for one worker."""

    def __init__(self, workers: int = 1) -> None:
        super().__init__({"workers": workers})
        self.orders: list[Order] = []

    def open(self, order: Order) -> Workers:
        self.orders.append(order)
        return super().open(order)


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, what: str) -> None:
        self.notes.append(what)


Make = Callable[..., Prober]


@pytest.fixture
def make(tmp_path: Path, engine: StandIn) -> Make:
    path = write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata(block_count=2))
    model = open_model(path, registry=REGISTRY)
    engine.hard = np.arange(1.0, 33.0)

    def build(executor: Threads | None = None, **changes: Any) -> Prober:
        settings: dict[str, Any] = {
            "digests": {VALUES: "1", QUERIES: "2", "output.weight": "3"},
            "folder": tmp_path,
            "known": {},
            "save": lambda probed: None,
            "progress": Silent(),
        }
        resident = changes.pop("resident", None)
        passes = Passes(texts=(TEXT,), tokens=16384, threads=1, resident=resident, executor=executor)
        return Prober(model, REGISTRY, None, passes, **settings | changes)

    return build


def asked(prober: Prober, asks: Any = ASKS) -> list[Any]:
    return [
        prober.evaluate(types) if number is None else prober.evaluate_part(types, number)
        for types, number in asks
    ]


@pytest.mark.parametrize("resident", [None, "Q8_0"], ids=["the model itself", "a file"])
def test_probes_are_those_of_one_process(make: Make, tmp_path: Path, resident: str | None) -> None:
    alone: list[Probed] = []
    shared: list[Probed] = []
    with make(resident=resident, save=alone.append) as prober:
        expected = asked(prober)
    executor = Noted()
    with make(executor, resident=resident, save=shared.append) as prober:
        assert asked(prober) == expected
        assert executor.orders[0].memory >= (tmp_path / "model.gguf").stat().st_size / 4
    assert shared == alone
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_what_is_expected_is_begun_and_only_what_is_asked_is_kept(make: Make) -> None:
    saved: list[Probed] = []
    with make() as prober:
        expected = asked(prober, ASKS[:1])
    taken: list[int] = []

    def asks() -> Iterator[tuple[Mapping[str, str], int | None]]:
        for number, ask in enumerate(ASKS):
            taken.append(number)
            yield ask

    with make(Noted(workers=2), save=saved.append) as prober:
        prober.expect(asks())
        assert taken == [0, 1]  # as many as there are workers
        assert asked(prober, ASKS[:1]) == expected
        taken.clear()
        prober.expect(asks())
        assert taken == [0]  # it is known, so it is asked at once, and others aren't begun
        assert [it.part for it in saved] == [""]
        asked(prober, ASKS[1:2])
        asked(prober, ASKS[:2])
    assert [it.part for it in saved] == ["", "3/4"]


def test_what_is_asked_is_begun_before_what_is_guessed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    real = ThreadWorkers.begin

    def begin(self: ThreadWorkers, task: Task) -> None:
        begun.append(task.what)
        real(self, task)

    monkeypatch.setattr(ThreadWorkers, "begin", begin)
    with make(Noted(workers=2)) as prober:
        prober.expect(ASKS)
        asked(prober, ASKS[3:])
    assert begun[:2] == ["attn_q, layer 1 → Q3_K", "attn_v, layer 0 → Q4_0"]


def test_what_is_known_needs_no_workers(make: Make) -> None:
    saved: list[Probed] = []
    with make(save=saved.append) as prober:
        expected = asked(prober)
    executor = Noted()
    with make(executor, known={it.key: it for it in saved}) as prober:
        prober.expect(ASKS)
        assert asked(prober) == expected
    assert executor.orders == []


def mixes(make: Make) -> list[tuple[Plan, str]]:
    with make() as prober:
        model = prober._model
    plans = []
    for type_ in ("Q4_0", "Q2_K"):
        recipe = load_recipe_text(f"quantrecipe: 1\ndefault: {type_}\n", registry=REGISTRY)
        plans.append((make_plan(recipe, model, registry=REGISTRY), type_))
    return plans


def test_mixes_are_those_of_one_process(make: Make) -> None:
    plans = mixes(make)
    alone: list[Mixed] = []
    shared: list[Mixed] = []
    with make(save_mix=alone.append) as prober:
        expected = [prober.mix(None, "itself"), *(prober.mix(*it) for it in plans)]
    with make(Noted(), save_mix=shared.append) as prober:
        prober.expect_mixes([(plans[0][0], "another name")])
        found = [prober.mix(None, "itself"), *(prober.mix(*it) for it in plans)]
    assert found == expected
    assert shared == alone


@pytest.mark.parametrize("workers", [1, 3])
def test_how_many_can_be_made_at_once(make: Make, workers: int) -> None:
    with make() as prober:
        assert prober.at_once == 1
    with make(Noted(workers=workers)) as prober:
        assert prober.at_once == workers


def test_an_error_is_told_to_whoever_asks(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ResidentInSession.change

    def change(self: ResidentInSession, wishes: Any) -> Any:
        if QUERIES in wishes:
            raise SensitivityError("these are nothing for it")
        return real(self, wishes)

    monkeypatch.setattr(ResidentInSession, "change", change)
    with make(Noted(workers=2)) as prober:
        prober.expect([ASKS[0], ASKS[3]])
        asked(prober, ASKS[:2])
        with pytest.raises(SensitivityError, match="nothing for it"):
            asked(prober, ASKS[3:])
        asked(prober, ASKS[:2])


def test_a_worker_opens_the_model_again_if_llama_cpp_ends(
    make: Make, engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as prober:
        expected = asked(prober)
    opened = len(engine.models)
    real, told = ResidentInSession.score, Told()
    deaths = iter([False, False, True])

    def score(self: ResidentInSession, *part: Any) -> Any:
        if next(deaths, False):
            engine.ended = True
            raise EvaluationError("llama.cpp was killed while it ran it")
        return real(self, *part)

    monkeypatch.setattr(ResidentInSession, "score", score)
    with make(Noted(), progress=told) as prober:
        assert asked(prober) == expected
    assert len(engine.models) == opened + 2
    assert len(told.notes) == 1
    assert "llama.cpp was killed while it ran it" in told.notes[0]


def test_what_llama_cpp_dies_of_each_time_is_given_up(
    make: Make, engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: ResidentInSession, part: Any) -> Any:
        engine.ended = True
        raise EvaluationError("llama.cpp was killed while it ran it")

    monkeypatch.setattr(ResidentInSession, "measure", measure)
    with (
        make(Noted()) as prober,
        pytest.raises(OutputError, match=r"attn_v, layer 0 → Q4_0 was lost 3 times"),
    ):
        asked(prober)


def test_a_llama_cpp_that_can_t_exchange_weights_is_refused(make: Make, engine: StandIn) -> None:
    engine.sealed = "it is sealed"
    with make(Noted()) as prober, pytest.raises(EvaluationError, match=r"it is sealed; leave out --executor"):
        asked(prober)


def test_workers_that_have_something_else_are_refused(make: Make, tmp_path: Path) -> None:
    executor = Noted()
    with make(executor) as prober:
        asked(prober, ASKS[:1])
    given = executor.orders[0].given
    with pytest.raises(EvaluationError, match=r"has llama.cpp b1 \(expected: b2\)"):
        open_prober(given | {"version": "b2"}, 1)
    data = bytearray((tmp_path / "model.gguf").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(ModelError, match="isn't the same file"):
        open_prober(given, 1)
