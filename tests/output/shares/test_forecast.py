"""The simulation of a cluster: what can be told by hand comes out, nothing is lost, and more machines help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.shared_work import SMALL, plan_of_kind

from quantrecipe.model.open_model import open_model
from quantrecipe.output.row_units import CHUNK_WEIGHTS
from quantrecipe.output.shares.forecast import (
    Cluster,
    Demand,
    demands_of,
    forecast,
    median_of,
    orders_of,
    simulate,
)
from quantrecipe.output.shares.part import Part, order_of_units
from quantrecipe.output.shares.rates import given_rate
from quantrecipe.output.shares.units import WorkUnit, cut
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry

BARE = Cluster(unit=0.0)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def alike(count: int, **more) -> list[Demand]:
    return [Demand(**{"seconds": 8.0, "chunks": 8, "read": 100, "written": 50} | more) for _ in range(count)]


def run(demands: list[Demand], cluster: Cluster, seed: int = 0):
    units = [WorkUnit(number=n, nbytes=it.read + it.written) for n, it in enumerate(demands)]
    return simulate(demands, orders_of(units, cluster.nodes), cluster, seed=seed)


def test_one_node_does_one_after_the_other() -> None:
    found = run(alike(10), replace(BARE, threads=4, start=5.0, price=3.0))
    assert (found.making, found.assembling) == (5 + 10 * 2, 5)
    assert found.seconds == found.node_seconds == 30
    assert found.cost == pytest.approx(3 * 30 / 3600)
    assert (found.units, found.again, found.read, found.written) == (10, 0, 1000 + 500, 500 + 500)
    assert found.bound_by == "computing"


def test_threads_share_chunks() -> None:
    for threads, seconds in ((1, 8), (3, 3), (7, 2), (8, 1), (99, 1)):
        assert run(alike(1), replace(BARE, threads=threads)).making == seconds


@pytest.mark.parametrize("nodes", [2, 5, 10])
def test_nodes_share_units(nodes: int) -> None:
    found = run(alike(10), replace(BARE, nodes=nodes, threads=8))
    assert found.making == pytest.approx(10 / nodes)
    assert found.node_seconds == pytest.approx(10)


def test_more_nodes_than_units_help_nobody() -> None:
    found = run(alike(3), replace(BARE, nodes=9, threads=8))
    assert found.making == 1
    assert found.node_seconds == pytest.approx(3)


@pytest.mark.parametrize(
    ("more", "making", "bound"),
    [
        ({"read": 100.0}, 20, "reading"),
        ({"write": 10.0}, 100, "writing"),
        ({"network": 15.0}, 10 * 20 / 2, "the nodes' network"),
        ({"read": 1000.0}, 4, "computing"),
    ],
)
def test_the_slowest_binds(more: dict[str, float], making: float, bound: str) -> None:
    found = run(alike(20, seconds=0.4 * 8, read=100, written=50), replace(BARE, nodes=2, threads=8, **more))
    assert found.making == pytest.approx(making, rel=0.06)
    assert found.bound_by == bound


def test_the_file_is_written_by_one() -> None:
    demands = alike(4)
    for more, seconds in (({"read": 20.0}, 10), ({"write": 5.0}, 40), ({"network": 2.0}, 100)):
        assert run(demands, replace(BARE, nodes=4, start=7.0, **more)).assembling == pytest.approx(
            7 + seconds
        )


def test_what_a_lost_node_was_at_is_made_by_another() -> None:
    cluster = replace(BARE, nodes=4, threads=8, lost=60.0, back=30.0, lease=10.0)
    for seed in range(30):
        found = run(alike(40, seconds=80.0), cluster, seed)
        assert found.written == 40 * 50 * 2
        assert found.read == (40 + found.again) * 100 + 40 * 50
    assert found.again > 0
    assert found.making > 100


def test_a_lost_node_costs_its_lease_at_the_end() -> None:
    """One of two is lost for good with the last unit: the other waits until its lease is over, and makes it."""
    cluster = replace(BARE, nodes=2, threads=8, lost=4.0, back=None, lease=500.0)
    runs = [run(alike(8, seconds=80.0), cluster, seed) for seed in range(300)]
    late = [it for it in runs if it.again == 1 and 500 < it.making < 560]
    finished = [it for it in late if it.assembling == 0]  # of some, the other was lost while it waited
    assert 0 < len(finished) < len(late)
    assert all(510 <= it.making <= 550 for it in finished)


def test_where_all_are_lost_the_last_makes_the_rest() -> None:
    found = run(alike(8, seconds=80.0), replace(BARE, nodes=2, threads=8, lost=3600.0, back=None))
    assert found.again == 2
    assert found.assembling == pytest.approx(80)


def test_the_same_seed_is_the_same_run() -> None:
    cluster = replace(BARE, nodes=4, threads=8, lost=60.0)
    one, two, other = (run(alike(40, seconds=80.0), cluster, seed) for seed in (1, 1, 2))
    assert one == two != other


def test_the_median_is_told() -> None:
    runs = [run(alike(3, seconds=seconds), replace(BARE, price=1.0)) for seconds in (30.0, 10.0, 20.0)]
    assert median_of(runs) == runs[2]


def test_nodes_take_units_in_the_order_of_parts(tmp_path: Path, registry: Registry) -> None:
    units = cut(plan_of_kind("dense", tmp_path, registry), SMALL)
    for number in range(1, 4):
        order = orders_of(units, 3)[number - 1]
        assert [units[it] for it in order] == order_of_units(units, Part(number=number, count=3))


def test_demands_are_those_of_the_units(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("factors of experts", tmp_path, registry)
    units = cut(plan, SMALL)
    demands = demands_of(plan, units, given_rate(1e6))
    hashed = {name for unit in units for name in unit.hashed}
    stored = {name: source.nbytes for name, source in plan.model.sources.items()}
    twice = sum(stored[name] for name in hashed)
    assert sum(it.written for it in demands) == sum(a.nbytes for a in plan.assignments)
    assert sum(it.read for it in demands) == pytest.approx(sum(stored.values()) + twice, rel=0.001)
    copied = sum(a.tensor.size for a in plan.assignments if a.copied)
    assert sum(it.seconds for it in demands) == pytest.approx((sum(u.size for u in units)) / 1e6, rel=0.01)
    assert copied > 0
    assert {it.chunks for it in demands} == {1}
    assert max(unit.size for unit in units) < CHUNK_WEIGHTS


def test_a_plan_of_shapes_has_a_forecast(registry: Registry) -> None:
    model = open_model(Path("shapes/qwen3-30b-a3b"), registry=registry)
    plan = make_plan(load_recipe("llama.cpp/Q8_0", registry=registry), model, registry=registry)
    ten, hundred = (forecast(plan, Cluster(nodes=n, threads=4), given_rate(10e6)) for n in (10, 100))
    ideal = plan.size / 10e6 / 4
    assert ideal / 10 < ten.making < 1.25 * ideal / 10
    assert ideal / 100 < hundred.making < 1.5 * ideal / 100
    lossy = forecast(plan, Cluster(nodes=10, threads=4, lost=20.0, price=1.0), given_rate(10e6))
    assert lossy.seconds > ten.seconds
    assert lossy.again > 0
    assert lossy.cost is not None
