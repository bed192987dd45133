"""Parts share the work, whatever becomes of some of them; nobody does what another does who lives."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from support.shared_work import SMALL, HeldProcess, plan_of_kind, same_files

from quantrecipe.errors import ModelError, NonFiniteError, OutputError
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares import part as part_module
from quantrecipe.output.shares.assemble import assemble
from quantrecipe.output.shares.folder import open_pieces, pieces_path
from quantrecipe.output.shares.leases import Leases
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.part import Part, PartResult, make_part, order_of_units, share_of
from quantrecipe.output.shares.units import WorkUnit, cut
from quantrecipe.output.store.store import open_store
from quantrecipe.output.store.upkeep import entries_of
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry

LIVING = "a process that lives"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def plan(tmp_path: Path, registry: Registry) -> Plan:
    return plan_of_kind("dense", tmp_path, registry)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "shared.gguf"


def run(plan: Plan, out: Path, registry: Registry, number: int, count: int = 4, **more) -> PartResult:
    return make_part(
        plan, out, Part(number=number, count=count), registry=registry, nbytes=SMALL, **{"threads": 1} | more
    )


def prepared(plan: Plan, out: Path, seconds: float) -> None:
    """The folder, with leases of so many seconds."""
    open_pieces(pieces_path(out), plan, nan="error", nbytes=SMALL, lease_seconds=seconds)


class TestShares:
    @pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
    def test_every_unit_is_in_one(self, plan: Plan, count: int) -> None:
        units = cut(plan, SMALL)
        shares = [share_of(units, Part(number=number, count=count)) for number in range(1, count + 1)]
        assert sorted((unit for share in shares for unit in share), key=lambda it: it.number) == list(units)
        for share in shares:
            numbers = sorted(unit.number for unit in share)
            assert numbers == list(range(numbers[0], numbers[0] + len(share))) if share else True
            assert [unit.nbytes for unit in share] == sorted((it.nbytes for it in share), reverse=True)

    def test_they_have_as_many_bytes(self) -> None:
        units = tuple(WorkUnit(number=n, nbytes=1 + n % 3) for n in range(300))
        sizes = [sum(it.nbytes for it in share_of(units, Part(number=n, count=7))) for n in range(1, 8)]
        assert max(sizes) - min(sizes) <= 3

    def test_others_units_are_taken_from_the_end(self, plan: Plan) -> None:
        units = cut(plan, SMALL)
        order = order_of_units(units, Part(number=2, count=3))
        own, after, first = (share_of(units, Part(number=n, count=3)) for n in (2, 3, 1))
        assert order == [*own, *reversed(after), *reversed(first)]


@pytest.mark.parametrize("number", [0, 5])
def test_there_is_no_such_part(plan: Plan, out: Path, registry: Registry, number: int) -> None:
    with pytest.raises(
        OutputError, match=rf"there is no part {number}/4; parts are counted from 1: 1/4 to 4/4"
    ):
        run(plan, out, registry, number)
    assert not pieces_path(out).exists()


def test_the_first_makes_everything_if_nobody_else_comes(plan: Plan, out: Path, registry: Registry) -> None:
    units = cut(plan, SMALL)
    first, second = (run(plan, out, registry, number) for number in (2, 1))
    assert (first.units, len(first.made), first.left) == (len(units), len(units), ())
    assert first.taken == len(units) - len(share_of(units, first.part))
    assert (second.made, second.taken, second.left, second.read) == ((), 0, (), 0)
    assert {it.suffix for it in first.folder.iterdir()} == {".piece", ".json"}


def test_what_another_is_at_is_left_to_it(plan: Plan, out: Path, registry: Registry) -> None:
    prepared(plan, out, 0.5)
    others = Leases(pieces_path(out), LIVING, 0.5)
    with others.take(3), others.take(5):
        result = run(plan, out, registry, 1)
    assert [(it.unit.number, it.who) for it in result.left] == [(3, LIVING), (5, LIVING)]
    assert {unit.number for unit in result.made} == {it.number for it in cut(plan, SMALL)} - {3, 5}


def test_what_a_lost_one_was_at_is_made_when_its_lease_is_over(
    plan: Plan, out: Path, registry: Registry
) -> None:
    prepared(plan, out, 0.5)
    (pieces_path(out) / "000003.lease").write_text('{"who": "lost", "token": "t"}')
    result = run(plan, out, registry, 1)
    assert result.left == ()
    assert 3 in {unit.number for unit in result.made}


def test_a_silent_one_is_waited_for(plan: Plan, out: Path, registry: Registry) -> None:
    """Its lease isn't over when nothing else is left to do."""
    prepared(plan, out, 1.5)
    folder = run(plan, out, registry, 1).folder
    (folder / "000003.piece").unlink()
    (folder / "000003.lease").write_text('{"who": "lost", "token": "t"}')
    result = run(plan, out, registry, 2)
    assert [unit.number for unit in result.made] == [3]
    assert result.left == ()


def test_a_unit_that_is_made_while_its_lease_is_taken_isn_t_made_again(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(plan, out, registry, 1).folder
    piece = folder / "000003.piece"
    piece.rename(folder / "kept")
    acquire = Leases._acquire

    def meanwhile(self: Leases, number: int) -> int | None:
        found = acquire(self, number)
        (folder / "kept").rename(piece)
        return found

    monkeypatch.setattr(Leases, "_acquire", meanwhile)
    assert run(plan, out, registry, 2).made == ()
    assert not list(folder.glob("*.lease"))


def test_several_at_once_make_each_unit_once(plan: Plan, out: Path, registry: Registry) -> None:
    results: list[PartResult] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(run(plan, out, registry, n))) for n in range(1, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = sorted(unit.number for result in results for unit in result.made)
    assert made == [unit.number for unit in cut(plan, SMALL)]
    peace = apply_plan(plan, out.with_name("peace.gguf"), registry=registry)
    assert same_files(assemble(plan, out, registry=registry), peace)


def test_an_error_gives_its_lease_back(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker.make

    def failing(self, unit, sink):
        if unit.number == 4:
            sink.write(memoryview(b"half"), 0)
            raise NonFiniteError("nan somewhere")
        return make(self, unit, sink)

    monkeypatch.setattr(Maker, "make", failing)
    with pytest.raises(NonFiniteError):
        run(plan, out, registry, 1)
    order = [unit.number for unit in order_of_units(cut(plan, SMALL), Part(number=1, count=4))]
    names = {it.name for it in pieces_path(out).iterdir()}
    assert names == {"pieces.json", *(f"{number:06d}.piece" for number in order[: order.index(4)])}


def test_progress_is_that_of_all(plan: Plan, out: Path, registry: Registry) -> None:
    class Heard(Silent):
        total = done = 0

        def start(self, weights: int) -> None:
            self.total = weights

        def advance(self, weights: int, read: int, written: int) -> None:
            self.done += weights

    others = run(plan, out, registry, 1)
    for unit in others.made[::2]:
        (others.folder / f"{unit.number:06d}.piece").unlink()
    heard = Heard()
    run(plan, out, registry, 2, progress=heard)
    size = sum(a.tensor.size for a in plan.assignments)
    assert (heard.total, heard.done) == (size, size)


def test_a_store_is_used_and_added_to(plan: Plan, out: Path, registry: Registry) -> None:
    store = out.with_name("store")
    first = make_part(plan, out, Part(number=1, count=2), registry=registry, store=store, threads=1)
    assert first.from_store == ()
    shutil.rmtree(first.folder)
    second = make_part(plan, out, Part(number=1, count=2), registry=registry, store=store, threads=1)
    assert set(second.from_store) >= {"blk.0.ffn_up.weight"}
    peace = apply_plan(plan, out.with_name("peace.gguf"), registry=registry)
    assert same_files(assemble(plan, out, registry=registry), peace)


def test_what_was_made_of_a_damaged_download_is_removed(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: object) -> list[Path]:
        raise ModelError("isn't what the hub has")

    others = run(plan, out, registry, 1)
    for number in (3, 5):
        (others.folder / f"{number:06d}.piece").unlink()
    monkeypatch.setattr(part_module, "settle", damaged)
    with pytest.raises(ModelError, match="the hub"):
        run(plan, out, registry, 2)
    made = {int(path.stem) for path in others.folder.glob("*.piece")}
    assert made == {unit.number for unit in others.made} - {3, 5}
    monkeypatch.setattr(part_module, "settle", lambda files: [out])
    assert run(plan, out, registry, 2).unchecked == (out,)
    assert run(plan, out, registry, 3).unchecked == ()


def test_rows_of_a_tensor_aren_t_kept_in_a_store(plan: Plan, out: Path, registry: Registry) -> None:
    store = out.with_name("store")
    run(plan, out, registry, 1, store=store)
    whole = {it.tensor for unit in cut(plan, SMALL) for it in unit.ranges if it.whole}
    kept = {it.facts.tensor for it in entries_of(open_store(store, create=False)) if it.facts is not None}
    assert kept
    assert kept <= whole


def test_a_disk_without_room_is_told_before_any_work(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 5000))
    with pytest.raises(OutputError, match=r"the pieces that are missing need .* has 4.88 KiB free"):
        run(plan, out, registry, 1)


def test_an_output_that_exists_is_refused_at_once(plan: Plan, out: Path, registry: Registry) -> None:
    out.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        run(plan, out, registry, 1)
    assert not pieces_path(out).exists()
    assert run(plan, out, registry, 1, force=True).left == ()


@pytest.mark.slow  # processes load Python, numpy and this package
class TestProcesses:
    """Processes of their own, of which one is held in the middle of a unit."""

    def test_one_that_is_killed_loses_a_unit_that_others_make(
        self, plan: Plan, out: Path, tmp_path: Path, registry: Registry
    ) -> None:
        held = HeldProcess("dense", tmp_path, "1/2", 3, 1.0)
        held.wait_until_held()
        held.process.kill()
        held.process.wait()
        assert len(list(pieces_path(out).glob("*.piece"))) == 2
        assert len(list(pieces_path(out).glob("new-*"))) == 1
        result = run(plan, out, registry, 2, 2)
        assert (result.left, len(result.made)) == ((), result.units - 2)
        peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
        assert same_files(assemble(plan, out, registry=registry), peace)
        assert not pieces_path(out).exists()

    def test_one_that_is_stopped_past_its_lease_and_goes_on(
        self, plan: Plan, out: Path, tmp_path: Path, registry: Registry
    ) -> None:
        held = HeldProcess("dense", tmp_path, "1/2", 3, 1.0)
        held.wait_until_held()
        os.kill(held.process.pid, signal.SIGSTOP)
        try:
            result = run(plan, out, registry, 2, 2)
            assert (result.left, len(result.made)) == ((), result.units - 2)
        finally:
            held.let_go()
            os.kill(held.process.pid, signal.SIGCONT)
        assert held.process.wait(60) == 0
        assert not list(pieces_path(out).glob("*.lease"))
        peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
        assert same_files(assemble(plan, out, registry=registry), peace)

    def test_one_that_goes_on_when_the_file_is_there(
        self, plan: Plan, out: Path, tmp_path: Path, registry: Registry
    ) -> None:
        """The others have assembled it meanwhile, and have removed the folder: it has nothing to put its piece in."""
        held = HeldProcess("dense", tmp_path, "1/2", 3, 1.0)
        held.wait_until_held()
        os.kill(held.process.pid, signal.SIGSTOP)
        run(plan, out, registry, 2, 2)
        peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
        result = assemble(plan, out, registry=registry)
        held.let_go()
        os.kill(held.process.pid, signal.SIGCONT)
        assert held.process.wait(60) == 1
        assert same_files(result, peace)
        assert not pieces_path(out).exists()

    @pytest.mark.parametrize("kind", ["factors of experts", "feedback"])
    def test_four_side_by_side(self, kind: str, out: Path, tmp_path: Path, registry: Registry) -> None:
        plan = plan_of_kind(kind, tmp_path, registry)
        parts = [HeldProcess(kind, tmp_path, f"{number}/4", 0, 60.0) for number in range(1, 5)]
        assert [it.process.wait(120) for it in parts] == [0, 0, 0, 0]
        peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
        assert same_files(assemble(plan, out, make=False, registry=registry), peace)
