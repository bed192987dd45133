"""Workers write what is theirs alone to the output's files, if they see these, and return the rest."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.shared_work import KINDS, SMALL, plan_of_kind, same_files

from quantrecipe.api import Executor, Order, Workers
from quantrecipe.errors import OutputError
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.shares import by_executor
from quantrecipe.output.shares import into as module
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.output.shares.into import Delivered, IntoFiles, into_files
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.units import cut
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
PART = 10_000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", PART)


def delivered(plan: Plan, into: IntoFiles) -> list[Delivered]:
    """What workers return that were opened from what has travelled."""
    make = pickle.loads(pickle.dumps(into)).open(plan)
    maker = Maker(plan, REGISTRY, threads=1, nan="error", progress=by_executor.Silent())
    found = [make(unit, maker) for unit in cut(plan, SMALL)]
    assert all(it.sound for it in found)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_workers_write_and_what_they_return(kind: str, tmp_path: Path) -> None:
    plan = plan_of_kind(kind, tmp_path, REGISTRY)
    peace = apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY)
    parts = [PartFile(tmp_path / f"out-{number}.gguf", file.nbytes) for number, file in enumerate(plan.files)]
    into = into_files(parts)
    layout = into.layout(plan, placed=True)
    done = delivered(plan, into)
    assert all(it.placed for it in done)
    files = [path.read_bytes() for path in peace.paths]
    units = cut(plan, SMALL)
    for it, unit in zip(done, units, strict=True):
        for segment in layout.of(unit).own:
            found = memoryview(bytearray(segment.nbytes))
            assert parts[segment.file].read(found, segment.begin)
            assert found == files[segment.file][segment.begin : segment.end]
        data = it.edges.tobytes()
        for segment in layout.of(unit).edges:
            begin, data = data[: segment.nbytes], data[segment.nbytes :]
            assert begin == files[segment.file][segment.begin : segment.end]
        assert data == b""
    assert sum(it.edges.nbytes for it in done) < 0.8 * sum(file.nbytes for file in plan.files)
    for part in parts:
        part.discard()


@pytest.mark.slow  # starts processes
def test_processes_write_to_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[bool] = []
    write = by_executor._write_edges
    monkeypatch.setattr(
        by_executor,
        "_write_edges",
        lambda unit, done, *more: (placed.append(done.placed), write(unit, done, *more)),
    )
    plan = plan_of_kind("shards", tmp_path, REGISTRY)
    result = apply_by(Processes({"workers": 2}), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=SMALL)
    assert set(placed) == {True}
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY))


def another(path: Path) -> None:
    """As on a machine that has a folder of the same name."""
    path.unlink()
    path.write_bytes(bytes(100))


@pytest.mark.parametrize("change", [another, Path.unlink, lambda path: path.write_bytes(b"")])
def test_who_sees_other_files_returns_everything(change: Callable[[Path], object], tmp_path: Path) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with PartFile(tmp_path / "out.gguf", plan.files[0].nbytes) as part:
        into = into_files([part])
        change(part.part)
        left = part.part.read_bytes() if part.part.exists() else b""
        done = delivered(plan, into)
        assert not any(it.placed for it in done)
        assert sum(it.edges.nbytes for it in done) == plan.files[0].nbytes - plan.files[0].header
        assert (part.part.read_bytes() if part.part.exists() else b"") == left


def test_what_is_returned_because_nobody_sees_the_files_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Files, "seen", lambda into: None)
    plan = plan_of_kind("experts", tmp_path, REGISTRY)
    result = apply_by(Threads(), plan, tmp_path / "out.gguf", registry=REGISTRY, nbytes=SMALL)
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY))


@pytest.mark.parametrize("other", ["", "machine", "mount"])
def test_who_isn_t_of_the_same_system_waits_until_a_server_has_it(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with PartFile(tmp_path / "out.gguf", plan.files[0].nbytes) as part:
        into = into_files([part])
        if other == "machine":
            monkeypatch.setattr(module, "_machine", lambda: "another")
        elif other == "mount":
            into = replace(into, system=(into.system[0], [(part.node[0] + 1, part.node[1])]))
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        done = delivered(plan, into)
        assert len(synced) == (len(done) if other else 0)


def test_who_comes_late_writes_nothing_to_a_finished_file(tmp_path: Path) -> None:
    """It was stopped, and its unit was made by another; and then somebody wrote other bytes into the file."""
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    part = PartFile(tmp_path / "out.gguf", plan.files[0].nbytes)
    make = into_files([part]).open(plan)
    part.write(memoryview(b"GGUF of sixteen."), 0)
    part.finish()
    data = part.path.read_bytes()
    maker = Maker(plan, REGISTRY, threads=1, nan="error", progress=by_executor.Silent())
    with pytest.raises(OutputError, match="was finished or given up meanwhile"):
        for unit in cut(plan, SMALL):
            make(unit, maker)
    assert part.path.read_bytes() == data


def test_a_disk_that_can_t_take_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with PartFile(tmp_path / "out.gguf", plan.files[0].nbytes) as part:
        into = into_files([part])
        monkeypatch.setattr(module, "write_all", full)
        with pytest.raises(OutputError, match=r"is full while writing out\.gguf"):
            delivered(plan, into)


def test_a_part_that_is_gone_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers write on to a file that has no name, but what they make isn't counted as done."""
    out = tmp_path / "out.gguf"
    write = by_executor._write_edges

    def removing(*given: object) -> None:
        parts = given[-1]
        parts[0].part.unlink(missing_ok=True)
        parts[0].look()
        write(*given)

    monkeypatch.setattr(by_executor, "_write_edges", removing)
    with pytest.raises(OutputError, match="somebody has removed or moved it"):
        apply_by(Threads(), plan_of_kind("dense", tmp_path, REGISTRY), out, registry=REGISTRY, nbytes=SMALL)
    assert not out.exists()


class Listening(Executor):
    """Threads. heard: called with the order before they begin"""

    name, summary = "listening", "for tests"

    def __init__(self, heard: Callable[[Order], object]) -> None:
        super().__init__()
        self.heard = heard

    def open(self, order: Order) -> Workers:
        self.heard(order)
        return Threads({"workers": 1}).open(order)


@pytest.mark.parametrize("kind", ["dense", "factors"], ids=["the same plan", "another plan"])
def test_a_worker_that_outlives_its_run_writes_nothing_wrong(kind: str, tmp_path: Path) -> None:
    """The command was killed, and the next one is at work on the same output when the worker goes on."""
    out, old = tmp_path / "out.gguf", plan_of_kind("dense", tmp_path, REGISTRY)
    units = cut(old, SMALL)
    with PartFile(out, old.files[0].nbytes) as part:
        worker = into_files([part]).open(old)
        part.keep()
    maker = Maker(old, REGISTRY, threads=1, nan="error", progress=by_executor.Silent())
    plan = plan_of_kind(kind, tmp_path, REGISTRY)

    def go_on(order: Order | None = None) -> None:
        for unit in units:
            with suppress(OutputError):  # of a file that isn't its own any more
                worker(unit, maker)

    result = apply_by(Listening(go_on), plan, out, registry=REGISTRY, nbytes=SMALL)
    go_on()
    assert same_files(result, apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY))
