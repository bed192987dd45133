"""Every row of a plan is in one unit; units have the bytes that were wanted, and cut nothing that belongs together."""

from __future__ import annotations

from collections import defaultdict
from math import lcm
from pathlib import Path

import pytest
from support.shared_work import KINDS, SMALL, plan_of_kind

from quantrecipe.model.open_model import open_model
from quantrecipe.output.shares.units import EACH, LEAST, WorkUnit, cut, unit_bytes
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def ranges_of(units: tuple[WorkUnit, ...]) -> dict[str, list[tuple[int, int]]]:
    found = defaultdict(list)
    for unit in units:
        for it in unit.ranges:
            found[it.tensor].append((it.start, it.stop))
    return {name: sorted(ranges) for name, ranges in found.items()}


def matrices(plan: Plan) -> dict[str, int]:
    """Rows of each tensor of the model that is written."""
    return {a.tensor.name: a.tensor.rows * a.tensor.experts for a in plan.assignments if a.owner is None}


@pytest.mark.parametrize("nbytes", [1, 30_000, SMALL, 10**9])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_one_unit(kind: str, nbytes: int, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    units = cut(plan, nbytes)
    found = ranges_of(units)
    assert found.keys() == matrices(plan).keys()
    for name, rows in matrices(plan).items():
        assert [0, *(stop for _, stop in found[name])] == [*(start for start, _ in found[name]), rows]
    assert [unit.number for unit in units] == list(range(len(units)))
    assert units == cut(plan, nbytes)
    assert sum(unit.made_bytes for unit in units) == sum(a.nbytes for a in plan.assignments)
    assert sum(unit.size for unit in units) == sum(a.tensor.size for a in plan.assignments if a.owner is None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_in_parts_is_hashed_once(kind: str, tmp_path: Path, registry: Registry) -> None:
    units = cut(plan_of_kind(kind, tmp_path, registry), SMALL)
    in_parts = {name for name, found in ranges_of(units).items() if len(found) > 1}
    assert in_parts
    assert sorted(name for unit in units for name in unit.hashed) == sorted(in_parts)
    whole = {it.tensor: it.whole for unit in units for it in unit.ranges}
    assert in_parts == {name for name, is_whole in whole.items() if not is_whole}


@pytest.mark.parametrize("kind", ["factors", "factors of experts", "feedback", "feedback of experts"])
def test_what_depends_on_a_matrix_is_cut_between_experts(
    kind: str, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    owners = {a.owner for a in plan.assignments} | {a.tensor.name for a in plan.assignments if a.inputs}
    tensors = {it.name: it for it in plan.model.tensors}
    for name, found in ranges_of(cut(plan, 1)).items():
        if name in owners:
            assert all(start % tensors[name].rows == stop % tensors[name].rows == 0 for start, stop in found)
            assert len(found) == tensors[name].experts


@pytest.mark.parametrize("kind", KINDS)
def test_ends_are_where_rows_may_be_parted(kind: str, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    for name, found in ranges_of(cut(plan, 1)).items():
        a = next(it for it in plan.assignments if it.tensor.name == name)
        together = lcm(plan.model.sources[name].together, a.format.spec.rows_per_group)
        assert all((start % a.tensor.rows) % together == 0 for start, _ in found)
        assert all(
            start // a.tensor.rows == (stop - 1) // a.tensor.rows or not (start | stop) % a.tensor.rows
            for start, stop in found
        )


def test_units_have_about_the_bytes_that_were_wanted(tmp_path: Path, registry: Registry) -> None:
    units = cut(plan_of_kind("dense", tmp_path, registry), SMALL)
    made = [unit.nbytes for unit in units if unit.ranges]
    assert max(made) <= 4 * SMALL
    assert max(unit.nbytes for unit in units if unit.ranges and not unit.ranges[0].whole) <= SMALL
    assert sum(made) / len(made) > SMALL / 2.5


def test_a_tensor_is_cut_only_where_it_is_much_of_what_a_worker_does(
    tmp_path: Path, registry: Registry
) -> None:
    """Since its source is read once more then."""
    plan = plan_of_kind("dense", tmp_path, registry)
    a = next(it for it in plan.assignments if it.tensor.name == "blk.1.ffn_down.weight")
    cost = plan.model.sources[a.tensor.name].nbytes + a.nbytes
    hashed = [
        {name for unit in cut(plan, nbytes) for name in unit.hashed} for nbytes in (cost // 4, cost // 4 - 1)
    ]
    assert a.tensor.name not in hashed[0]
    assert a.tensor.name in hashed[1]


def test_memory_bounds_what_can_be_cut(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    for most in (30_000, 10**6):
        units = cut(plan, 10**9, most)
        assert max(unit.nbytes for unit in units if unit.ranges) <= most
        assert sum(unit.size for unit in units) == plan.size


def test_small_tensors_share_a_unit_and_lie_together(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    (unit,) = cut(plan, 10**9)
    places = [plan.model.sources[it.tensor].extents[0].offset for it in unit.ranges]
    assert places == sorted(places)
    assert unit.nbytes == unit.made_bytes + sum(source.nbytes for source in plan.model.sources.values())


def test_more_workers_have_smaller_units(registry: Registry) -> None:
    plan = make_plan(
        load_recipe("llama.cpp/Q8_0"), open_model(Path("shapes/qwen3-30b-a3b"), registry=registry)
    )
    sizes = [unit_bytes(plan, workers) for workers in (1, 16, 32, 10**6)]
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == LEAST
    total = 3 * 30.5e9  # two bytes are read, and about one is written
    assert sizes[2] == pytest.approx(total / (32 * EACH), rel=0.06)


def test_what_a_unit_is_called() -> None:
    from quantrecipe.output.shares.units import RowRange

    one = RowRange(tensor="blk.0.x", start=0, stop=4)
    part = RowRange(tensor="blk.0.x", start=4, stop=8, whole=False)
    assert WorkUnit(number=0, ranges=(one,)).what == "blk.0.x"
    assert WorkUnit(number=0, ranges=(one, one, one)).what == "blk.0.x and 2 more"
    assert WorkUnit(number=0, ranges=(part,)).what == "blk.0.x, rows from 4"
    assert WorkUnit(number=0, hashed=("output",)).what == "output"
