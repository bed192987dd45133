"""An executor's run that was interrupted goes on: with what it noted, and with nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.interrupted import left_after, put_back
from support.models import llama_tensors, write_gguf
from support.shared_work import KINDS, MIX, SMALL, plan_of_kind, same_files

from quantrecipe.api import Executor, Order, Task, Workers
from quantrecipe.errors import ModelError
from quantrecipe.executors.local import Threads
from quantrecipe.executors.thread_workers import ThreadWorkers
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.partfile import part_path
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares import by_executor
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.output.shares.units import cut
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

MOST = 2 * SMALL
"""Bytes that a unit may have: what workers return is in memory."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def cut_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of matrices, although they aren't large."""
    monkeypatch.setattr(by_executor, "MOST", MOST)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/out.gguf"


class Counting(Executor):
    """Threads, and the numbers of the units that they are given; slow ones come twice."""

    name, summary = "counting", "for tests"

    def __init__(self, workers: int = 2) -> None:
        super().__init__()
        self.workers = workers
        self.begun: list[int] = []

    def open(self, order: Order) -> Workers:
        workers = Threads({"workers": self.workers}).open(order)
        begin = workers.begin

        def noting(task: Task) -> None:
            self.begun.append(task.number)
            begin(task)

        workers.begin = noting  # type: ignore[method-assign]  # of this one
        return workers


def by_threads(plan: Plan, out: Path, registry: Registry, **more: Any) -> Result:
    return apply_by(Counting(), plan, out, registry=registry, nbytes=SMALL, **more)


def stopped(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, after: float = 0.6
) -> bytes:
    """Leave what a run leaves that is killed when so much of its journal is written; what the file has to be."""
    left = out.parents[1] / "left"
    total = left_after(-1, out.parent, lambda: by_threads(plan, out, registry), monkeypatch, left)
    first = sorted(out.parent.iterdir())
    peace = b"".join(path.read_bytes() for path in first)
    for path in first:
        path.unlink()
    left_after(int(total * after), out.parent, lambda: by_threads(plan, out, registry), monkeypatch, left)
    put_back(out.parent, left)
    return peace


def lines(path: Path) -> list[list[Any]]:
    """The records that are there as a whole."""
    return [json.loads(line[17:]) for line in path.read_bytes().rpartition(b"\n")[0].splitlines()]


def a_unit_is_noted(plan: Plan, journal: Path) -> bool:
    """Of a run that is on its way: how its work was cut, and all records of one unit."""
    if not journal.exists():
        return False
    said = next((it[1] for it in lines(journal) if it[0] == "cut"), 0)
    return bool(said and noted(cut(plan, said, most=by_executor.MOST), plan, journal))


def journal_of(out: Path) -> Path:
    (path,) = out.parent.glob("*-journal")
    return path


def noted(units: Any, plan: Plan, journal: Path) -> set[int]:
    """The numbers of the units of which everything is noted, counted in another way."""
    records = lines(journal)
    numbers = {a.tensor.name: n for n, a in enumerate(plan.assignments)}
    found = set()
    for unit in units:
        wanted: list[list[Any]] = [["source", numbers[name]] for name in unit.hashed]
        for it in unit.ranges:
            beside = [a.tensor.name for a in plan.assignments if a.owner == it.tensor]
            wanted += [["done" if it.whole else "share", numbers[name]] for name in (it.tensor, *beside)]
            if not it.whole:
                wanted.append(["share", numbers[it.tensor], it.start, it.stop])
        if all(any(record[: len(it)] == it for record in records) for it in wanted):
            found.add(unit.number)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_it_is_made_of(
    kind: str, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    stopped(plan, out, registry, monkeypatch)
    units = cut(plan, SMALL, MOST)
    there = noted(units, plan, journal_of(out))
    executor = Counting()
    result = apply_by(executor, plan, out, registry=registry)
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))
    assert sorted({*executor.begun}) == [unit.number for unit in units if unit.number not in there]
    assert result.left == sum(unit.size for unit in units if unit.number in there) > 0
    assert [path.suffix for path in out.parent.iterdir()] == [".gguf"] * len(plan.files)


@pytest.mark.parametrize("after", [0.02, 0.3, 0.99])
def test_whenever_it_was_killed(
    after: float, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind("factors of experts", tmp_path, registry)
    peace = stopped(plan, out, registry, monkeypatch, after)
    assert by_threads(plan, out, registry).path.read_bytes() == peace


def test_weights_that_lost_their_value_and_remarks(
    tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = llama_tensors(layers=1)
    weights["blk.0.attn_q.weight"][3, 5] = weights["token_embd.weight"][0, 1] = float("nan")
    model = open_model(write_gguf(tmp_path / "nan.gguf", weights), registry=registry)
    plan = make_plan(MIX, model, registry=registry)
    left = tmp_path / "left"
    total = left_after(
        -1, out.parent, lambda: by_threads(plan, out, registry, nan="allow"), monkeypatch, left
    )
    out.unlink()
    left_after(total, out.parent, lambda: by_threads(plan, out, registry, nan="allow"), monkeypatch, left)
    put_back(out.parent, left)
    result = by_threads(plan, out, registry, nan="allow")
    assert result.left == plan.size
    assert result.nonfinite == {"blk.0.attn_q.weight": 1, "token_embd.weight": 1}
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry, nan="allow"))


@pytest.mark.parametrize("kind", ["dense", "factors of experts"])
def test_a_run_without_workers_goes_on_with_whole_tensors(
    kind: str, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    peace = stopped(plan, out, registry, monkeypatch, 0.9)
    whole = {it[1] for it in lines(journal_of(out)) if it[0] == "done"}
    result = apply_plan(plan, out, registry=registry, resume=True)
    assert result.path.read_bytes() == peace
    assert 0 < result.left <= sum(plan.assignments[number].tensor.size for number in whole)


def test_workers_go_on_with_what_a_run_without_them_has_left(
    tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind("factors", tmp_path, registry)

    def run() -> Result:
        return apply_plan(plan, out, registry=registry, threads=1, resume=True)

    left = tmp_path / "left"
    total = left_after(-1, out.parent, run, monkeypatch, left)
    out.unlink()
    left_after(total * 2 // 3, out.parent, run, monkeypatch, left)
    put_back(out.parent, left)
    executor = Counting()
    result = apply_by(executor, plan, out, registry=registry, nbytes=1 << 20)
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))
    assert 0 < result.left < plan.size
    assert len({*executor.begun}) < len(cut(plan, 1 << 20, MOST))


def test_another_number_of_workers_goes_on_with_the_units_of_the_first(
    tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    peace = stopped(plan, out, registry, monkeypatch)
    there = noted(cut(plan, SMALL, MOST), plan, journal_of(out))
    executor = Counting(workers=5)
    result = apply_by(executor, plan, out, registry=registry, nbytes=3 * SMALL)
    assert result.path.read_bytes() == peace
    assert len({*executor.begun}) == len(cut(plan, SMALL, MOST)) - len(there)


@pytest.mark.parametrize("whole", [True, False])
def test_bytes_that_aren_t_what_was_noted_are_named_and_made_again(
    whole: bool, tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    peace = stopped(plan, out, registry, monkeypatch, 0.9)
    record = next(it for it in lines(journal_of(out)) if it[0] == ("done" if whole else "share"))
    a = plan.assignments[record[1]]
    begin = 0 if whole else record[2] * a.nbytes // a.tensor.rows
    with part_path(out).open("r+b") as file:
        file.seek(a.offset + begin + 7)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 32]))
    result = by_threads(plan, out, registry)
    assert result.path.read_bytes() == peace
    assert result.differing == (a.tensor.name,)


@pytest.mark.parametrize("keep", [None, lambda part, share: 0 < share < 1])
def test_ctrl_c_asks(
    keep: Callable[[Path, float], bool] | None,
    tmp_path: Path,
    out: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, add, count = plan_of_kind("dense", tmp_path, registry), Journal.add_done, 0

    def ending(self: Journal, *given: Any) -> None:
        nonlocal count
        add(self, *given)
        count += 1
        if count == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_done", ending)
        with pytest.raises(KeyboardInterrupt):
            by_threads(plan, out, registry, keep=keep)
    assert part_path(out).exists() == journal_path(out).exists() == (keep is not None)
    result = by_threads(plan, out, registry)
    assert bool(result.left) == (keep is not None)
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


def test_a_journal_of_another_plan_is_told_and_not_used(
    tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Heard(Silent):
        why = ""

        def started_over(self, part: Path, why: str) -> None:
            self.why = why

    stopped(plan_of_kind("dense", tmp_path, registry), out, registry, monkeypatch)
    plan, heard = plan_of_kind("factors", tmp_path, registry), Heard()
    result = by_threads(plan, out, registry, progress=heard)
    assert heard.why == "another plan"
    assert result.left == 0
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=registry))


def test_a_model_that_changes_meanwhile_is_refused_and_nothing_is_kept(
    tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, ended, count = plan_of_kind("dense", tmp_path, registry), ThreadWorkers.ended, 0

    def changing(self: ThreadWorkers, seconds: float) -> Any:
        nonlocal count
        found = ended(self, seconds)
        count += found is not None
        if count == 5:
            with (tmp_path / "source.gguf").open("r+b") as file:  # at no time is it shorter
                data = bytearray(file.read())
                for extent in (it for source in plan.model.sources.values() for it in source.extents):
                    data[extent.offset] ^= 1
                file.seek(0)
                file.write(data)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ThreadWorkers, "ended", changing)
        with pytest.raises(ModelError, match="has changed while it was read"):
            by_threads(plan, out, registry)
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow  # starts processes
@pytest.mark.skipif(os.name != "posix", reason="a process is killed")
def test_a_command_that_is_killed_goes_on(
    tmp_path: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the command cuts as it does
    source = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=3))
    plan = make_plan("llama.cpp/Q4_K_M", open_model(source, registry=registry), registry=registry)
    command = [sys.executable, "-m", "quantrecipe", "--no-plugins", "apply", "llama.cpp/Q4_K_M", str(source)]
    command += ["--executor", "processes", "--executor-option", "workers=2"]
    peace = tmp_path / "peace.gguf"
    subprocess.run([*command, "-o", str(peace)], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, "-o", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not a_unit_is_noted(plan, journal_path(out)):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL and not out.exists()
    done = subprocess.run(
        [*command, "-o", str(out), "--json", *([] if killed else ["--force"])],
        check=True,
        capture_output=True,
    )
    assert out.read_bytes() == peace.read_bytes()
    assert (json.loads(done.stdout)["resumed_weights"] > 0) == killed
