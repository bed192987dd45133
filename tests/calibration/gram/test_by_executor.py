"""Gram matrices by an executor's workers: the files are those of one process, whoever wrote them, and whoever died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_workers import ProductsWorkerSession, install
from support.graph_of_products import ModelOfProducts, SessionOfProducts
from support.models import llama_metadata, write_gguf

from quantrecipe.api import Executor, Order, Workers
from quantrecipe.calibration import CalibrationSettings, Prepared, Ran, WorkerNote
from quantrecipe.calibration.collect import Group
from quantrecipe.calibration.gram import GramEntry, GramPlan, Grams, compute, compute_gram, passes
from quantrecipe.calibration.gram.by_executor import (
    Share,
    collect_share,
    made_elsewhere,
    memory_there,
    remove_shares,
)
from quantrecipe.calibration.gram.collect import GramInput, Pass, Survey, survey
from quantrecipe.calibration.gram.passes import largest_input
from quantrecipe.errors import EvaluationError, ImportanceError, OutputError
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.importance.provenance import Provenance
from quantrecipe.memory.machine import Machine
from quantrecipe.model.open_model import open_model
from quantrecipe.texts import Domain, Rendered

ORIGIN = Provenance(fingerprint="v1:a:b", model="hash", template="template")
SETTINGS = CalibrationSettings(contexts=(20,), output=True)
MEMORY = 1 << 30
TEXT = "".join(chr(33 + (n * n * 31 + n) % 89) for n in range(130))  # 6 chunks


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch, tmp_path / "startup", products=True)
    monkeypatch.setattr(compute, "Session", SessionOfProducts(ModelOfProducts()))
    free(monkeypatch, MEMORY)
    monkeypatch.setattr(compute, "seconds_of", known_seconds)
    weights = {"blk.0.attn_q.weight": np.ones((4, 6), np.float32)}  # few, beside Gram matrices
    write_gguf(tmp_path / "model.gguf", weights, llama_metadata())
    return tmp_path


def known_seconds(seen: Survey, inputs: Sequence[GramInput], tokens: int) -> float:
    """Not those of this machine, whose clock would decide who gets what. Most are those of products."""
    return passes.seconds_of(replace(seen, seconds=1e-4, operations=1e6), inputs, tokens)


def free(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(passes, "detect_machine", lambda: Machine(gpus=(), ram_total=memory, ram_free=memory))


def run(here: Path, folder: str, executor: Executor | None = None, **more: Any) -> tuple[Grams, list[Any]]:
    told: list[Any] = []
    rendered = [Rendered(text=TEXT, special=False, answers=(), place="a text")]
    domain = Domain(name="text", weight=None, documents=(), digest="digest", files=())
    hear: Callable[[Any], None] = more.pop("hear", lambda what: None)

    def heard(what: Any) -> None:
        told.append(what)
        hear(what)

    settings = more.pop("settings", SETTINGS)
    grams = compute_gram(
        here / "model.gguf",
        [(domain, rendered)],
        here / folder,
        settings,
        origin=ORIGIN,
        executor=executor,
        hear=heard,
        **more,
    )
    return grams, told


def files(grams: Grams) -> dict[str, bytes]:
    """All that is in the folder, and in folders in it."""
    root = grams.folder
    return {str(it.relative_to(root)): it.read_bytes() for it in root.rglob("*") if it.is_file()}


def plan_of(told: list[Any]) -> GramPlan:
    plan: GramPlan
    [plan] = [it for it in told if isinstance(it, GramPlan)]
    return plan


@pytest.mark.parametrize("experts", ["shared", "each"])
@pytest.mark.parametrize("workers", [1, 2, 4, 20])
def test_the_files_are_those_of_one_process(here: Path, workers: int, experts: str) -> None:
    alone, _ = run(here, "alone", experts=experts)
    shared, told = run(here, "shared", Threads({"workers": workers}), experts=experts)
    assert files(shared) == files(alone)
    assert "index.json" in files(shared)
    assert len(files(shared)) == {"shared": 10, "each": 12}[experts]
    assert not [it for it in shared.folder.iterdir() if it.is_dir()]
    assert shared == replace(alone, folder=shared.folder)
    plan = plan_of(told)
    assert plan.workers == workers
    assert [name for one in plan.passes for name in one] == [it.name for it in plan.inputs]
    assert len(plan.passes) <= workers
    assert workers == 1 or len(plan.passes) > 1
    assert isinstance(told[0], Prepared)
    assert [it.tokens for it in told if isinstance(it, Ran)] == [
        120 * (number + 1) for number in range(len(plan.passes))
    ]
    assert {it.name for it in told if isinstance(it, GramEntry)} == {it.name for it in plan.inputs}


def test_layers_are_for_each_pass(here: Path) -> None:
    alone, _ = run(here, "alone")
    shared, told = run(here, "shared", Threads({"workers": 2}), layers=1)
    assert files(shared) == files(alone)
    assert len(plan_of(told).passes) == 3


@pytest.mark.slow  # starts processes, which load Python and this package
def test_a_process_that_is_killed_is_told_and_missed_by_nobody(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when it had written its files, of which nobody has heard."""
    alone, _ = run(here, "alone")
    monkeypatch.setenv("FAKE_DIES", str(here / "died"))
    shared, told = run(here, "shared", Processes({"workers": 2}))
    assert (here / "died").exists()
    assert files(shared) == files(alone)
    [note] = [it.what for it in told if isinstance(it, WorkerNote)]
    assert "it died (signal 9)" in note


def test_a_worker_opens_the_model_again_if_llama_cpp_ends(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = run(here, "alone")
    monkeypatch.setenv("FAKE_LOSES", str(here / "lost"))
    monkeypatch.setattr(ProductsWorkerSession, "opened", 0)
    shared, told = run(here, "shared", Threads({"workers": 1}))
    assert files(shared) == files(alone)
    assert ProductsWorkerSession.opened == 2
    assert "llama.cpp was killed" in next(it.what for it in told if isinstance(it, WorkerNote))


@pytest.mark.parametrize("first", [None, Threads({"workers": 1})], ids=["one process", "an executor"])
def test_a_stopped_run_goes_on_either_way(here: Path, first: Executor | None) -> None:
    """An executor begins with the longest pass, so that inputs of the second layer are finished before the first."""
    alone, _ = run(here, "alone")
    layer = "blk.0" if first is None else "blk.1"

    def stop(what: object) -> None:
        if isinstance(what, GramEntry) and what.name == f"{layer}.ffn_down_exps.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(here, "stopped", first, layers=1, hear=stop)
    grams, told = run(here, "stopped", Threads({"workers": 3}) if first is None else None)
    assert plan_of(told).done == {it.name for it in grams.index.inputs if it.name.startswith(layer)}
    assert files(grams) == files(alone)


class TestMemory:
    def test_workers_share_the_room_of_a_machine(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = plan_of(run(here, "all", Threads({"workers": 1}))[1])
        free(monkeypatch, 2 * plan.memory + (here / "model.gguf").stat().st_size + 10)
        one = plan_of(run(here, "one", Threads({"workers": 1}))[1])
        assert one.memory == plan.memory
        three = plan_of(run(here, "three", Threads({"workers": 3}))[1])
        assert three.memory <= plan.memory // 3
        assert len(three.passes) > 3
        monkeypatch.setattr("quantrecipe.executors.thread_workers.ThreadWorkers.per_machine", 1)
        apart = plan_of(run(here, "apart", Threads({"workers": 3}))[1])
        assert len(apart.passes) == 3

    def test_an_order_says_what_the_largest_input_takes_besides_the_model(self, here: Path) -> None:
        orders: list[Order] = []

        class Noted(Threads):
            def open(self, order: Order) -> Workers:
                orders.append(order)
                return super().open(order)

        run(here, "grams", Noted(), memory=1000)
        model = open_model(here / "model.gguf")
        assert orders[0].memory == 1000 + largest_input(model, "shared", output=True)

    def test_an_input_that_has_no_room_there_is_refused(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free(monkeypatch, 1000)
        with pytest.raises(OutputError, match=r"take .* of memory .* are free"):
            run(here, "grams", Threads())

    def test_that_of_the_worker_s_machine_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = Path("no such file")
        monkeypatch.setattr(Path, "stat", lambda self: type("", (), {"st_size": 0}))
        model = ModelOfProducts(path=path)
        assert memory_there(model, 2, tell=print).room == MEMORY // 4  # type: ignore[arg-type]  # it runs as one does


def share(model: ModelOfProducts, folder: Path) -> Share:
    """All inputs in one pass."""
    chunks = np.arange(120, dtype=np.int32).reshape(3, 2, 20)
    groups = tuple(Group(chunks=chunk, domain=0, weight=1.0) for chunk in chunks)
    seen = survey(model, groups[0], True, "shared", tell=print)  # type: ignore[arg-type]  # it runs as one does
    model.computed.clear()
    work = Pass(
        groups=groups,
        inputs=seen.inputs,
        last=(len(seen.visits), seen.visits[-1]),
        output=True,
        experts="shared",
        folder=folder,
    )
    return Share(work=work, visits=seen.visits, workers=1)


class TestAWorker:
    def model(self, here: Path, **more: Any) -> ModelOfProducts:
        return ModelOfProducts(path=here / "model.gguf", **more)

    def did(self, model: ModelOfProducts, one: Share) -> Any:
        return collect_share(model, one, tell=print)  # type: ignore[arg-type]  # it runs as one does

    def test_what_it_writes_has_no_name_until_it_is_taken(self, here: Path) -> None:
        folder = here / "grams"
        folder.mkdir()
        one = share(model := self.model(here), folder)
        first, second = self.did(model, one), self.did(model, one)
        assert first.folder != second.folder
        assert list(folder.glob("*.npy")) == []
        taken = list(made_elsewhere(_Elsewhere(first), [(1, one)], folder))  # type: ignore[arg-type]  # it has `each`
        assert taken == [first.entries] == [second.entries]
        assert [it.name for it in taken[0]] == [it.name for it in one.work.inputs]
        assert sorted(it.name for it in folder.iterdir()) == sorted(
            [second.folder, *(f"{it.name}.npy" for it in one.work.inputs)]
        )
        remove_shares(folder)
        assert not list(folder.glob("worker-*"))
        assert len(list(folder.glob("*.npy"))) == 9

    def test_files_that_can_t_be_seen_end_the_run(self, here: Path) -> None:
        folder = here / "grams"
        folder.mkdir()
        one = share(model := self.model(here), folder)
        made = self.did(model, one)
        (folder / made.folder / f"{made.entries[3].name}.npy").unlink()
        with pytest.raises(OutputError, match=r"can't be taken .*name a folder with --gram that all"):
            list(made_elsewhere(_Elsewhere(made), [(1, one)], folder))  # type: ignore[arg-type]  # it has `each`

    def test_a_folder_that_it_doesn_t_see(self, here: Path) -> None:
        one = share(model := self.model(here), here / "elsewhere")
        with pytest.raises(OutputError, match=r"the worker on .* doesn't see the folder .*elsewhere"):
            self.did(model, one)
        assert model.computed == []
        assert not (here / "elsewhere").exists()

    def test_less_memory_than_the_pass_takes(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("whole", "parts"):
            (here / name).mkdir()
        one = share(model := self.model(here), here / "whole")
        memory = sum(it.memory for it in one.work.inputs)
        size = (here / "model.gguf").stat().st_size
        free(monkeypatch, memory + size)
        whole, often = self.did(model, one), model.computed.count("blk.0.attn_q.weight")
        assert often == 6
        free(monkeypatch, memory + size - 1)  # half of which is for a pass
        model.computed.clear()
        parts = self.did(model, replace(one, work=replace(one.work, folder=here / "parts")))
        assert model.computed.count("blk.0.attn_q.weight") == 3 * often
        assert model.computed.count("output.weight") == often
        assert parts.entries == whole.entries
        for entry in whole.entries:
            name = f"{entry.name}.npy"
            assert (here / "parts" / parts.folder / name).read_bytes() == (
                here / "whole" / whole.folder / name
            ).read_bytes()

    def test_nothing_is_left_of_what_failed(self, here: Path) -> None:
        folder = here / "grams"
        folder.mkdir()
        one = share(self.model(here), folder)
        with pytest.raises(EvaluationError, match="is NaN or Inf"):
            self.did(self.model(here, broken=60), one)
        assert list(folder.iterdir()) == []


class _Elsewhere:
    """Workers that have made this."""

    def __init__(self, *made: Any) -> None:
        self._made = made

    def each(self, function: Any, calls: Any, what: str, *, in_order: bool) -> Any:
        assert (function, in_order) == (collect_share, False)
        return iter(self._made)


def test_workers_don_t_change_the_model(here: Path) -> None:
    with pytest.raises(ImportanceError, match="workers can't change the model between stages"):
        run(here, "grams", Threads(), behind=object())


def test_a_worker_s_leftovers_go_away_with_the_next_run(here: Path) -> None:
    whole, _ = run(here, "alone")
    left = here / "again" / whole.folder.name / "worker-0badcafe"
    left.mkdir(parents=True)
    (left / "blk.0.attn_q.weight.npy.part").write_bytes(b"half")
    grams, _ = run(here, "again")
    assert files(grams) == files(whole)
