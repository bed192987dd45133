"""Quick units are noted together: what a run that goes on keeps of them, and that it keeps nothing else."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.interrupted import left_after, put_back
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.output import passes, row_units
from quantrecipe.output.apply import Result, apply_plan, apply_plans
from quantrecipe.output.first_rows import NOTE_SECONDS
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.partfile import part_path
from quantrecipe.output.store import shelf
from quantrecipe.output.store.store import open_store
from quantrecipe.output.store.upkeep import damage_of, entries_of
from quantrecipe.output.transform import Rows
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

NAME = "blk.0.ffn_gate.weight"
ROWS = 5
"""In each unit."""
TOGETHER = 3
"""Units that take 2 ms each: 6 ms are more than NOTE_SECONDS, and 4 aren't."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    units_take(0.002, monkeypatch)
    monkeypatch.setattr(row_units.split, "__defaults__", (1, ROWS * 256))
    monkeypatch.setattr(shelf, "LEAST", 1000)


def units_take(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = count(0, 1)
    monkeypatch.setattr(passes, "_clock", lambda: next(now) * seconds)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))


@pytest.fixture
def plan(source: Path, registry: Registry) -> Plan:
    return plan_of(source, registry, "Q4_0")


def plan_of(source: Path, registry: Registry, others: str) -> Plan:
    mix = recipe(rule("ffn_gate", "Q8_0"), default=others)
    return make_plan(mix, open_model(source, registry=registry), registry=registry)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/out.gguf"


def run(plan: Plan, out: Path, registry: Registry, **more: Any) -> Result:
    return apply_plan(plan, out, registry=registry, threads=1, resume=True, **more)


def lines(path: Path) -> list[list[Any]]:
    return [json.loads(line[17:]) for line in path.read_bytes().splitlines()]


def number_of(plan: Plan) -> int:
    return next(number for number, a in enumerate(plan.assignments) if a.tensor.name == NAME)


def stopped_in(plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> int:
    """What a run leaves that ends when 30 units of NAME are noted: the number of the line that does it."""
    kept = out.parents[1] / "all"
    total = left_after(-1, out.parent, lambda: run(plan, out, registry), monkeypatch, kept)
    out.unlink()
    left_after(total, out.parent, lambda: run(plan, out, registry), monkeypatch, kept)
    wanted = ["first", number_of(plan), 30 * ROWS]
    after = next(n for n, it in enumerate(lines(kept / journal_path(out).name), 1) if it[:3] == wanted)
    out.unlink()
    left = out.parents[1] / "left"
    left_after(after, out.parent, lambda: run(plan, out, registry), monkeypatch, left)
    peace = out.with_name("peace.gguf")
    out.replace(peace)
    peace.replace(out.parents[1] / "peace.gguf")
    put_back(out.parent, left)
    return after


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first rows of the units of NAME that are encoded."""
    found: list[int] = []
    encode = Rows.encode

    def noting(self: Rows, *given: Any, **more: Any) -> int:
        if self._unit.tensor.name == NAME:
            found.append(self._unit.start)
        return encode(self, *given, **more)

    monkeypatch.setattr(Rows, "encode", noting)
    return found


@pytest.mark.parametrize(
    ("seconds", "kind"), [(0.002, "first"), (0.0026, "first"), (NOTE_SECONDS * 1.1, "rows")]
)
def test_which_units_are_noted_by_themselves(
    seconds: float, kind: str, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    units_take(seconds, monkeypatch)
    noted: list[tuple[str, int]] = []
    for name in ("add_first", "add_rows"):
        add = getattr(Journal, name)

        def adding(self: Journal, tensor: int, *given: Any, add: Any = add, name: str = name) -> None:
            if tensor == number_of(plan):
                noted.append((name, given[0] if isinstance(given[0], int) else given[0].stop))
            add(self, tensor, *given)

        monkeypatch.setattr(Journal, name, adding)
    run(plan, out, registry)
    rows = plan.assignments[number_of(plan)].tensor.rows
    together = {0.002: TOGETHER, 0.0026: 2}.get(seconds, 1)
    if kind == "first":
        assert noted == [("add_first", stop) for stop in range(together * ROWS, rows + 1, together * ROWS)]
    else:
        assert noted == [("add_rows", start) for start in range(0, rows, ROWS)]


def test_all_that_was_noted_is_kept(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    stopped_in(plan, out, registry, monkeypatch)
    peace = (out.parents[1] / "peace.gguf").read_bytes()
    encoded.clear()
    result = run(plan, out, registry)
    assert result.path.read_bytes() == peace
    assert encoded == list(range(30 * ROWS, plan.assignments[number_of(plan)].tensor.rows, ROWS))


@pytest.mark.parametrize("unit", [0, 13, 29])
def test_a_unit_that_has_other_bytes(
    unit: int, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    """What was noted before it is kept; it and what lies behind is made again."""
    stopped_in(plan, out, registry, monkeypatch)
    peace = (out.parents[1] / "peace.gguf").read_bytes()
    a = plan.assignments[number_of(plan)]
    with part_path(out).open("r+b") as file:
        file.seek(a.offset + (unit * ROWS + 2) * a.nbytes // a.tensor.rows)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    encoded.clear()
    result = run(plan, out, registry)
    assert result.path.read_bytes() == peace
    assert encoded[0] == unit // TOGETHER * TOGETHER * ROWS
    assert len(encoded) == -(-(a.tensor.rows - encoded[0]) // ROWS)


def test_a_source_that_changed_under_its_old_time(
    plan: Plan, source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantrecipe.output.run_key._END", 100)
    stopped_in(plan, out, registry, monkeypatch)
    status, place = source.stat(), plan.model.sources[NAME].extents[0].offset
    with source.open("r+b") as file:  # of each unit the first row's beginning is compared
        file.seek(place + 7 * ROWS * 256 * 2)
        file.write(b"\x80\x3f")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = run(plan, out, registry)
    assert result.left > 0
    other = apply_plan(plan, out.with_name("other.gguf"), registry=registry)
    assert result.path.read_bytes() == other.path.read_bytes() != (out.parents[1] / "peace.gguf").read_bytes()


@pytest.mark.parametrize("what", ["all have it", "a part has other bytes", "a journal lacks it"])
def test_two_outputs_that_want_the_same(
    what: str,
    plan: Plan,
    source: Path,
    out: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    encoded: list[int],
) -> None:
    plans, outs = [plan, plan_of(source, registry, "Q5_0")], [out, out.with_name("second.gguf")]

    def both() -> list[Result]:
        return apply_plans(list(zip(plans, outs, strict=True)), registry=registry, threads=1, resume=True)

    add, left = Journal.add_first, out.parents[1] / "left"

    def ending(self: Journal, tensor: int, made: Any) -> None:
        add(self, tensor, made)
        if tensor == number_of(plan) and made.stop == 30 * ROWS and self.path == journal_path(outs[1]):
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_first", ending)
        with pytest.raises(MemoryError):
            both()
    if what == "a part has other bytes":
        a = plans[1].assignments[number_of(plan)]
        with part_path(outs[1]).open("r+b") as file:
            file.seek(a.offset + a.nbytes // 10)
            file.write(b"\0\1\2\3")
    if what == "a journal lacks it":
        path = journal_path(outs[1])
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    encoded.clear()
    results = both()
    kept = {"all have it": 30, "a journal lacks it": 27}.get(what)
    assert encoded[0] == (encoded[0] if kept is None else kept * ROWS)
    assert encoded[0] < 30 * ROWS or what == "all have it"
    for number, result in enumerate(results):
        peace = apply_plan(plans[number], left.with_suffix(f".{number}"), registry=registry)
        assert result.path.read_bytes() == peace.path.read_bytes()


def test_a_store_gets_what_was_left(
    plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped_in(plan, out, registry, monkeypatch)
    result = run(plan, out, registry, store=tmp_path / "store")
    assert 0 < result.left < plan.size
    entries = list(entries_of(open_store(tmp_path / "store", create=False)))
    assert entries
    assert not any(map(damage_of, entries))
    again = run(plan, out.with_name("again.gguf"), registry, store=tmp_path / "store")
    assert NAME in again.from_store
    assert again.path.read_bytes() == result.path.read_bytes()
