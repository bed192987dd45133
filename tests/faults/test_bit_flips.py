"""One bit of what a run reads is another: the file is what it has to be, or the error names what is damaged."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from support.interrupted import left_after, put_back
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import OutputError
from quantrecipe.model.open_model import open_model
from quantrecipe.output import first_rows, row_units
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.partfile import part_path
from quantrecipe.output.store import shelf
from quantrecipe.output.store.store import open_store
from quantrecipe.output.store.upkeep import damage_of, entries_of
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_up", "NVFP4"), default="Q4_K")
FLIPS = 25


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_units.split, "__defaults__", (1, 8_000))
    monkeypatch.setattr(first_rows, "NOTE_SECONDS", 0.0)
    monkeypatch.setattr(shelf, "LEAST", 1000)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))


@pytest.fixture
def plan(source: Path, registry: Registry) -> Plan:
    return make_plan(MIX, open_model(source, registry=registry), registry=registry)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/out.gguf"


def flipped(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("what", [journal_path, part_path])
def test_of_a_journal_or_a_part(
    what: object, plan: Plan, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> Result:
        return apply_plan(plan, out, registry=registry, threads=1, resume=True)

    peace = apply_plan(plan, out.parents[1] / "peace.gguf", registry=registry).path.read_bytes()
    add, left = Journal.add_done, out.parents[1] / "left"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add_done", lambda self, *given: (add(self, *given), self.sync())[1])
        left_after(70, out.parent, run, patch, left)
    draw, found = random.Random(3), Counter[str]()
    for _ in range(FLIPS):
        put_back(out.parent, left)
        assert callable(what)
        flipped(what(out), draw)
        try:
            result = run()
        except OutputError as error:
            assert what is journal_path
            assert str(journal_path(out)) in str(error)
            found["named"] += 1
            continue
        assert result.path.read_bytes() == peace
        found["made again, and named" if result.differing else "made again"] += 1
    print(f"{FLIPS} flips: {dict(found)}")  # noqa: T201  # what was tried
    assert found["named" if what is journal_path else "made again, and named"]


@pytest.mark.slow
def test_of_a_store(plan: Plan, out: Path, registry: Registry) -> None:
    folder = out.parents[1] / "store"

    def run() -> Result:
        return apply_plan(plan, out, registry=registry, force=True, store=folder)

    peace = run().path.read_bytes()
    draw = random.Random(4)
    for _ in range(FLIPS):
        entries = list(entries_of(open_store(folder, create=False)))
        assert not any(map(damage_of, entries))
        damaged = draw.choice(entries)
        flipped(damaged.path, draw)
        result = run()
        assert result.path.read_bytes() == peace
        assert str(damaged.path) in result.store_problems[0]
        assert len(result.store_problems) == 1


def test_of_a_source(
    plan: Plan, source: Path, out: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another model then: what was made of the former isn't used."""

    def run() -> Result:
        return apply_plan(plan, out, registry=registry, threads=1, resume=True)

    left = out.parents[1] / "left"
    left_after(40, out.parent, run, monkeypatch, left)
    put_back(out.parent, left)
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    result = run()
    assert result.left == 0
    other = apply_plan(plan, out.with_name("other.gguf"), registry=registry)
    assert result.path.read_bytes() == other.path.read_bytes()
