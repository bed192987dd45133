"""Whatever rows a unit has, its bytes are those that the file has of them, and so is what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from support.shared_work import KINDS, SMALL, plan_of_kind, small_row_units

from quantrecipe.errors import NonFiniteError
from quantrecipe.output import row_units
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares.make import Maker, assignments_by_matrix, places
from quantrecipe.output.shares.units import cut
from quantrecipe.output.store.store import open_store
from quantrecipe.registry import Registry, load_registry


class Room:
    """A sink in memory."""

    def __init__(self, nbytes: int) -> None:
        self.data = bytearray(b"\xee" * nbytes)

    def write(self, data: memoryview, offset: int) -> None:
        assert offset >= 0
        self.data[offset : offset + data.nbytes] = data.cast("B")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_units.split, "__defaults__", row_units.split.__defaults__)
    small_row_units()


def maker_of(plan, registry: Registry, nan="error") -> Maker:
    return Maker(plan, registry, threads=2, nan=nan, progress=Silent())


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_has_the_bytes_of_the_file(kind: str, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    result = apply_plan(plan, tmp_path / "whole.gguf", registry=registry)
    whole = {
        a.tensor.name: path.read_bytes()[a.offset : a.offset + a.nbytes]
        for file, path in zip(plan.files, result.paths, strict=True)
        for a in file.assignments
    }
    maker, by_matrix, hashed = maker_of(plan, registry), assignments_by_matrix(plan), {}
    for unit in cut(plan, SMALL):
        room = Room(unit.made_bytes)
        made = maker.make(unit, room)
        assert made.nbytes == unit.made_bytes == sum(it.nbytes for it in made.ranges)
        hashed |= made.sources
        for place, it in zip(places(by_matrix, unit), made.ranges, strict=True):
            name = place.assignment.tensor.name
            data = room.data[it.offset : it.offset + it.nbytes]
            assert (name, it.start, it.stop) == (it.tensor, place.range.start, place.range.stop)
            assert data == whole[name][place.begin : place.begin + place.nbytes], name
            assert it.data == xxhash.xxh3_128_hexdigest(data)
            if place.assignment.owner is None and place.range.whole:
                assert it.source == result.hashes[name]
            else:
                assert it.source == ""
    assert hashed == {name: result.hashes[name] for name in hashed}


def test_bytes_that_are_read_are_counted(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    maker = maker_of(plan, registry)
    made = [maker.make(unit, Room(unit.made_bytes)) for unit in cut(plan, SMALL)]
    stored = {name: source.nbytes for name, source in plan.model.sources.items()}
    in_parts = {name for it in made for name, _ in it.sources}
    assert sum(it.read for it in made) == sum(stored.values()) + sum(stored[name] for name in in_parts)


def test_the_place_of_a_weight_that_isn_t_finite_is_that_of_the_tensor(
    tmp_path: Path, registry: Registry
) -> None:
    from support.models import llama_tensors, write_gguf
    from support.shared_work import MIX

    from quantrecipe.model.open_model import open_model
    from quantrecipe.planning import make_plan

    weights = llama_tensors(layers=1)
    weights["blk.0.ffn_up.weight"][300, 7] = float("nan")
    model = open_model(write_gguf(tmp_path / "nan.gguf", weights), registry=registry)
    plan = make_plan(MIX, model, registry=registry)
    units = [
        unit
        for unit in cut(plan, SMALL)
        if any(it.tensor == "blk.0.ffn_up.weight" and it.start <= 300 < it.stop for it in unit.ranges)
    ]
    (unit,) = units
    assert unit.ranges[0].start > 0
    with pytest.raises(NonFiniteError, match=r"blk.0.ffn_up.weight: nan at row 300, column 7"):
        maker_of(plan, registry).make(unit, Room(unit.made_bytes))
    made = maker_of(plan, registry, "allow").make(unit, Room(unit.made_bytes))
    assert made.ranges[0].lost == 1


def test_remarks_are_by_matrix_where_rows_are_missing(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("feedback", tmp_path, registry)
    maker = maker_of(plan, registry)
    made = {
        it.tensor: it for unit in cut(plan, 10**9) for it in maker.make(unit, Room(unit.made_bytes)).ranges
    }
    query = made["blk.0.attn_q.weight"]
    assert (query.remarked, len(query.remarks), query.said) == (1, 1, ())
    assert made["blk.0.attn_v.weight"].remarked == 0


def test_what_went_wrong_with_a_store_is_told_once(tmp_path: Path, registry: Registry) -> None:
    plan, store = plan_of_kind("dense", tmp_path, registry), open_store(tmp_path / "store", create=True)
    store.problems.append("from before")
    maker = Maker(plan, registry, threads=1, nan="error", progress=Silent(), store=store)
    units = cut(plan, SMALL)
    store.problems.append("a problem")
    told = [maker.make(unit, Room(unit.made_bytes)).problems for unit in units[:3]]
    assert told == [("a problem",), (), ()]
