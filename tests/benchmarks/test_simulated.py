"""The simulated machine, on work whose time can be told without it. Units take a second each."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from quantrecipe.output.row_units import CHUNK_WEIGHTS, PART_WEIGHTS
from quantrecipe.tensor import TensorInfo

ROOT = Path(__file__).parents[2]
PARTS = CHUNK_WEIGHTS // PART_WEIGHTS
BYTES = 2 * CHUNK_WEIGHTS
"""Of a unit, both read and written."""


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulated", ROOT / "benchmarks/simulated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def one(units: int) -> list[TensorInfo]:
    """A tensor of so many units."""
    return [TensorInfo.from_name("output.weight", (units * CHUNK_WEIGHTS // 4096, 4096), "BF16")]


def several(count: int) -> list[TensorInfo]:
    """So many tensors of a unit each."""
    shape = (CHUNK_WEIGHTS // 4096, 4096)
    return [TensorInfo.from_name(f"blk.{i}.attn_q.weight", shape, "BF16") for i in range(count)]


@pytest.mark.parametrize(("threads", "seconds"), [(1, 4), (2, 2), (3, 2), (4, 1), (64, 1)])
def test_what_needs_nothing_shared_is_done_at_once(
    simulated: ModuleType, threads: int, seconds: float
) -> None:
    costs = simulated.Costs(encode=1 / CHUNK_WEIGHTS)
    assert simulated.simulate(one(4), costs, threads).seconds == pytest.approx(seconds)
    assert simulated.simulate(several(4), costs, threads).seconds == pytest.approx(seconds)


def test_threads_share_processors(simulated: ModuleType) -> None:
    costs, machine = simulated.Costs(encode=1 / CHUNK_WEIGHTS), simulated.Machine(processors=2)
    assert simulated.simulate(one(4), costs, 64, machine).seconds == pytest.approx(2)


@pytest.mark.parametrize(
    ("lock", "costs", "alone"),
    [
        ("GIL", {"unit": 1}, 3 / 4 + 8 / 4),  # a quarter is Python that collects, one unit after the other
        ("GIL", {"part": 1 / PARTS}, 1),
        ("inode lock", {"write": 1 / BYTES}, 1),
    ],
)
def test_one_thread_at_a_time_has_a_lock(
    simulated: ModuleType, lock: str, costs: dict[str, float], alone: float
) -> None:
    costs = simulated.Costs(**costs)
    ran = simulated.simulate(one(8), costs, 8)
    assert ran.seconds == pytest.approx(8)
    assert ran.busy[lock] == pytest.approx(8)
    without = simulated.Machine(without=(lock,))
    assert simulated.simulate(one(8), costs, 8, without).seconds == pytest.approx(alone)


def test_units_of_a_tensor_are_hashed_one_after_the_other(simulated: ModuleType) -> None:
    """Read and written bytes, half a second each; only the one where they are the same."""
    costs = {"hash": 0.5 / BYTES}
    assert simulated.simulate(one(8), simulated.Costs(**costs), 8).seconds == pytest.approx(8)
    assert simulated.simulate(several(8), simulated.Costs(**costs), 8).seconds == pytest.approx(1)
    copied = simulated.Costs(**costs, copied=True)
    assert simulated.simulate(one(8), copied, 8).seconds == pytest.approx(4)


def test_while_one_hashes_the_others_go_on(simulated: ModuleType) -> None:
    """Two threads, units that take a second to make and half a second to hash: neither ever waits."""
    costs = simulated.Costs(encode=1 / CHUNK_WEIGHTS, hash=0.25 / BYTES)
    assert simulated.simulate(one(40), costs, 2).seconds == pytest.approx(30, rel=0.03)


def test_two_slots_for_each_thread_hold_it_up_behind_a_slow_hash(simulated: ModuleType) -> None:
    """Hashing takes twice as long as making: it binds, however many threads there are."""
    costs = simulated.Costs(encode=1 / CHUNK_WEIGHTS, hash=1 / BYTES)
    assert simulated.simulate(one(20), costs, 8).seconds == pytest.approx(41)


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_bytes_go_over_a_bus_at_its_rate(simulated: ModuleType, what: str) -> None:
    """Each unit is read and written; over the memory bus its bytes go several times."""
    machine = simulated.Machine(**{what: 2.0 * BYTES})
    seconds = simulated.simulate(one(8), simulated.Costs(), 8, machine).seconds
    assert seconds == pytest.approx(8 if what == "disk" else 8 * (2 + 2 + 2) / 2)


def test_tensors_cost_python_when_they_begin_and_when_they_end(simulated: ModuleType) -> None:
    costs = simulated.Costs(tensor=1)
    assert simulated.simulate(several(4), costs, 4).seconds == pytest.approx(4)


def test_a_thread_that_waits_for_the_gil_takes_time_to_wake(simulated: ModuleType) -> None:
    """Each unit takes the GIL four times for each part, and another thread always waits for it but at the end."""
    costs, machine = simulated.Costs(part=1 / PARTS), simulated.Machine(hand_over=1 / PARTS / 4)
    assert simulated.simulate(one(8), costs, 1, machine).seconds == pytest.approx(8)
    assert simulated.simulate(one(8), costs, 8, machine).seconds == pytest.approx(16, abs=1)
