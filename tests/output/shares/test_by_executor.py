"""Whoever does the work, the file is that of one run; and what goes wrong with workers leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from support.huggingface import MODELS, write_model
from support.shared_work import KINDS, SMALL, Changing, plan_of_kind, same_files

from quantrecipe.api import Executor, Order, Outcome, Workers
from quantrecipe.errors import NonFiniteError, OutputError
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.partfile import part_path
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares import by_executor
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.output.shares.units import cut
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def cut_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of matrices, although they aren't large."""
    monkeypatch.setattr(by_executor, "MOST", SMALL)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.gguf"


@pytest.mark.usefixtures("cut_in_the_middle")
@pytest.mark.parametrize("in_pieces", [False, True], ids=["returned", "pieces"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_that_of_one_run(
    kind: str, in_pieces: bool, out: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    pieces = tmp_path / "pieces" if in_pieces else None
    result = apply_by(Threads(), plan, out, registry=registry, nbytes=SMALL, pieces=pieces)
    peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
    assert same_files(result, peace)
    assert result.read >= peace.read
    assert {it.name for it in tmp_path.glob("*pieces*")} == set()


@pytest.mark.parametrize("name", MODELS)
def test_what_folders_of_hugging_face_become(
    name: str, out: Path, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that change places, experts that are stacked, files with halves of the tensors: cut apart, all the same."""
    model = open_model(write_model(name, tmp_path), registry=registry)
    plan = make_plan(load_recipe("pure/Q8_0", registry=registry), model, registry=registry)
    monkeypatch.setattr(by_executor, "MOST", 5_000)
    result = apply_by(Threads(), plan, out, registry=registry, nbytes=5_000)
    assert any(len(it.ranges) == 1 and not it.ranges[0].whole for it in cut(plan, 5_000, 5_000))
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


@pytest.mark.slow  # starts processes
@pytest.mark.usefixtures("cut_in_the_middle")
@pytest.mark.parametrize("in_pieces", [False, True], ids=["returned", "pieces"])
@pytest.mark.parametrize("kind", ["factors of experts", "importance", "feedback"])
def test_processes_make_the_same(
    kind: str, in_pieces: bool, out: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    pieces = tmp_path / "pieces" if in_pieces else None
    result = apply_by(Processes({"workers": 3}), plan, out, registry=registry, nbytes=SMALL, pieces=pieces)
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


def test_bytes_that_changed_on_their_way_are_refused(out: Path, tmp_path: Path, registry: Registry) -> None:
    def flip(outcome: Outcome, count: int) -> Outcome:
        if count == 4:
            outcome.result.edges[-1] ^= 1
        return outcome

    plan = plan_of_kind("dense", tmp_path, registry)
    with pytest.raises(OutputError, match="other bytes have come than the worker made"):
        apply_by(Changing(flip), plan, out, registry=registry, nbytes=SMALL)
    assert not out.exists()
    result = apply_by(Threads(), plan, out, registry=registry)
    assert result.left > 0
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


def test_lost_work_is_told_and_done_again(out: Path, tmp_path: Path, registry: Registry) -> None:
    class Heard(Silent):
        all: ClassVar[list[str]] = []

        def told(self, what: str) -> None:
            self.all.append(what)

    seen = set()

    def lose(outcome: Outcome, count: int) -> Outcome:
        first = outcome.number not in seen
        seen.add(outcome.number)
        return replace(outcome, result=None, lost="gone") if first and count % 3 == 0 else outcome

    plan = plan_of_kind("factors", tmp_path, registry)
    result = apply_by(Changing(lose), plan, out, registry=registry, nbytes=SMALL, progress=Heard())
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))
    assert Heard.all
    assert all(it.endswith(": gone") for it in Heard.all)


def test_a_run_that_ended_goes_on_with_its_pieces(out: Path, tmp_path: Path, registry: Registry) -> None:
    def end(outcome: Outcome, count: int) -> Outcome:
        if count == 6:
            raise KeyboardInterrupt
        return outcome

    plan, pieces = plan_of_kind("dense", tmp_path, registry), tmp_path / "pieces"
    with pytest.raises(KeyboardInterrupt):
        apply_by(Changing(end), plan, out, registry=registry, nbytes=SMALL, pieces=pieces)
    there = len(list(pieces.glob("*.piece")))
    assert there >= 6
    begun = []

    def note(outcome: Outcome, count: int) -> Outcome:
        begun.append(outcome.number)
        return outcome

    result = apply_by(Changing(note), plan, out, registry=registry, pieces=pieces)
    assert len(begun) == len(cut(plan, SMALL)) - there
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


def test_what_a_worker_raises_is_raised(out: Path, tmp_path: Path, registry: Registry) -> None:
    from support.models import llama_tensors, write_gguf
    from support.shared_work import MIX

    weights = llama_tensors(layers=1)
    weights["blk.0.ffn_up.weight"][300, 7] = float("nan")
    model = open_model(write_gguf(tmp_path / "nan.gguf", weights), registry=registry)
    plan = make_plan(MIX, model, registry=registry)
    with pytest.raises(NonFiniteError, match=r"blk.0.ffn_up.weight: nan at row 300, column 7"):
        apply_by(Threads(), plan, out, registry=registry, nbytes=SMALL)
    assert not part_path(out).exists()
    result = apply_by(Threads(), plan, out, registry=registry, nbytes=SMALL, nan="allow")
    assert result.nonfinite == {"blk.0.ffn_up.weight": 1}


def test_a_store_is_used_and_what_is_wrong_with_it_is_told(
    out: Path, tmp_path: Path, registry: Registry
) -> None:
    plan, store = plan_of_kind("dense", tmp_path, registry), tmp_path / "store"
    for turn in ("filled", "used", "damaged"):
        result = apply_by(Threads(), plan, out, registry=registry, store=store, force=True)
        assert bool(result.from_store) == (turn == "used")
        assert bool(result.store_problems) == (turn == "damaged")
        if turn == "used":
            for path in store.glob("??/*/*"):
                path.write_bytes(path.read_bytes()[:-5])
    assert "is damaged" in result.store_problems[0]
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


def test_one_bar_for_all(out: Path, tmp_path: Path, registry: Registry) -> None:
    class Heard(Silent):
        total = done = written = 0

        def start(self, weights: int) -> None:
            self.total += weights

        def advance(self, weights: int, read: int, written: int) -> None:
            self.done += weights
            self.written += written

    plan, heard = plan_of_kind("dense", tmp_path, registry), Heard()
    apply_by(Threads(), plan, out, registry=registry, nbytes=SMALL, progress=heard)
    assert heard.total == heard.done == plan.size
    assert heard.written == sum(a.nbytes for a in plan.assignments)


def test_an_output_that_exists_is_refused_before_workers_are_opened(
    out: Path, tmp_path: Path, registry: Registry
) -> None:
    class Never(Executor):
        name, summary = "never", "for tests"

        def open(self, order: Order) -> Workers:
            raise AssertionError

    out.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        apply_by(Never(), plan_of_kind("dense", tmp_path, registry), out, registry=registry)
    assert out.read_text() == "precious"
