"""forecast: how long a cluster takes for a plan, what it reads and what it costs, before anything is started.

The units are those that `apply --part` would make, and each simulated node takes them in the order of a real part. A
unit takes what is longest of computing, reading and writing, which overlap. Reading and writing wait for those who were
there before, since the shared folder gives so many bytes per second to all together.

Nodes are lost at random, with what they were at. Another takes the unit when its lease is over. At the end one node
reads the pieces and writes the file.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from statistics import median

from quantrecipe.output.row_units import CHUNK_WEIGHTS
from quantrecipe.output.shares.leases import LEASE_SECONDS
from quantrecipe.output.shares.part import shares_of
from quantrecipe.output.shares.rates import Rates
from quantrecipe.output.shares.units import WorkUnit, cut, unit_bytes
from quantrecipe.plan.plan import Assignment, Plan

__all__ = ["Cluster", "Demand", "Forecast", "demands_of", "forecast", "orders_of", "simulate"]

_RUNS = 21
"""Simulations of a cluster that loses nodes, each with other random numbers: the median of so many is told."""

_HOUR = 3600.0

_HASH = 1.5e-10
"""Seconds of a byte that is read from the system's cache and hashed by XXH3-128, on a Xeon of 2023: 7 GB/s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Machines that share a folder.

    read, write: bytes per second of the shared folder, for all nodes together
    network:     bytes per second of each node
    lost:        how many times in an hour a node is lost
    back:        seconds until another takes its place; None: never
    start:       seconds until a node begins to work
    unit:        seconds for each unit besides: to take it, to sync its piece
    price:       of a node for an hour
    """

    nodes: int = 1
    threads: int = 1
    read: float = math.inf
    write: float = math.inf
    network: float = math.inf
    lost: float = 0.0
    back: float | None = 600.0
    start: float = 0.0
    unit: float = 0.02
    lease: float = LEASE_SECONDS
    price: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a unit takes.

    seconds: of one thread, for all of it
    chunks:  parts that threads share; 1 where only one thread can work
    read, written: bytes
    """

    seconds: float
    chunks: int
    read: int
    written: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What is to be expected.

    seconds:      from the start to the file
    making:       of these, until all pieces are made
    assembling:   until the file is written
    node_seconds: of all nodes together, each from its start to its end
    units, again: of the plan; those that were made again, since a node was lost
    read, written: bytes, over the shared folder
    cost:         None where no price is known
    bound_by:     computing, reading or writing: what would be shorter first
    """

    seconds: float
    making: float
    assembling: float
    node_seconds: float
    units: int
    again: int
    read: int
    written: int
    cost: float | None
    bound_by: str


def forecast(plan: Plan, cluster: Cluster, rates: Rates) -> Forecast:
    """For a plan, with so many seconds for each weight."""
    units = cut(plan, unit_bytes(plan, cluster.nodes))
    demands = demands_of(plan, units, rates)
    orders = orders_of(units, cluster.nodes)
    seeds = range(_RUNS if cluster.lost else 1)
    return median_of([simulate(demands, orders, cluster, seed=seed) for seed in seeds])


def median_of(runs: Sequence[Forecast]) -> Forecast:
    """The run that takes a middling time, with the hours and the cost of a middling one."""
    middle = sorted(runs, key=lambda it: it.seconds)[len(runs) // 2]
    return Forecast(
        **{name: getattr(middle, name) for name in Forecast.__slots__}
        | {"node_seconds": median(it.node_seconds for it in runs)}
        | {"cost": None if middle.cost is None else median(it.cost or 0.0 for it in runs)}
    )


def orders_of(units: Sequence[WorkUnit], nodes: int) -> list[list[int]]:
    """The order in which each node takes units, as their places among all."""
    places = {unit.number: index for index, unit in enumerate(units)}
    shares = [[places[unit.number] for unit in share] for share in shares_of(units, nodes)]
    backwards = [share[::-1] for share in shares]
    return [
        [*shares[node], *(it for more in range(1, nodes) for it in backwards[(node + more) % nodes])]
        for node in range(nodes)
    ]


def demands_of(plan: Plan, units: Sequence[WorkUnit], rates: Rates) -> list[Demand]:
    """What each unit takes."""
    by_name: dict[str, Assignment] = {a.tensor.name: a for a in plan.assignments if a.owner is None}
    found = []
    for unit in units:
        seconds = sum(
            (it.stop - it.start) * by_name[it.tensor].tensor.cols * rates.weight_of(by_name[it.tensor])
            for it in unit.ranges
        )
        read = unit.nbytes - unit.made_bytes
        seconds += _HASH * unit.nbytes if unit.hashed else 0.0
        chunks = -(-unit.size // CHUNK_WEIGHTS) if unit.ranges else 1
        found.append(Demand(seconds=seconds, chunks=max(1, chunks), read=read, written=unit.made_bytes))
    return found


@dataclass(slots=True)
class _Bus:
    """Bytes that go one after the other: whoever comes waits for those before."""

    rate: float
    free_at: float = 0.0

    def until(self, now: float, nbytes: int) -> float:
        self.free_at = max(self.free_at, now) + nbytes / self.rate
        return self.free_at


@dataclass(slots=True)
class _Run:
    """state: of a unit: 0 free, 1 somebody is at it, 2 made"""

    draw: random.Random
    events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    number: int = 0
    state: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    node_seconds: float = 0.0
    end: float = 0.0
    again: int = 0
    read: int = 0
    written: int = 0
    silent: int = 0  # units whose holder was lost, and whose lease isn't over

    def at(self, when: float, do: Callable[[float], None]) -> None:
        self.number += 1
        heappush(self.events, (when, self.number, do))


def simulate(
    demands: Sequence[Demand], orders: Sequence[Sequence[int]], cluster: Cluster, *, seed: int = 0
) -> Forecast:
    """One run of a cluster; the same for the same seed."""
    run = _Run(random.Random(seed), state=[0] * len(demands))
    reading, writing = _Bus(cluster.read), _Bus(cluster.write)
    at = [0] * cluster.nodes  # how far in its order a node has looked
    began, fails = [0.0] * cluster.nodes, [math.inf] * cluster.nodes

    def begin(node: int, now: float) -> None:
        began[node] = now
        fails[node] = now + run.draw.expovariate(cluster.lost / _HOUR) if cluster.lost else math.inf
        run.at(now + cluster.start, lambda when: take(node, when))

    def take(node: int, now: float) -> None:
        if fails[node] <= now:  # while it waited
            gone(node, fails[node], now)
            return
        order = orders[node]
        while at[node] < len(order) and run.state[order[at[node]]]:
            at[node] += 1
        index = order[at[node]] if at[node] < len(order) else None
        if index is None:
            if run.silent:  # it is known to be alone with these when their leases are over
                run.waiting.append(node)
            else:
                leave(node, now)
            return
        run.state[index] = 1
        done = _ends(demands[index], now, cluster, reading, writing)
        run.read += demands[index].read
        if fails[node] < done:
            run.at(fails[node], lambda when: lose(node, index, when))
        else:
            run.at(done, lambda when: made(node, index, when))

    def made(node: int, index: int, now: float) -> None:
        run.state[index] = 2
        run.written += demands[index].written
        run.end = max(run.end, now)
        take(node, now)

    def lose(node: int, index: int, now: float) -> None:
        run.again += 1
        run.silent += 1
        run.at(now + cluster.lease, lambda when: free(index, when))
        gone(node, now, now)

    def gone(node: int, when: float, now: float) -> None:
        run.node_seconds += when - began[node]
        if cluster.back is not None:
            run.at(max(now, when + cluster.back), lambda then: come_back(node, then))

    def come_back(node: int, now: float) -> None:
        if 0 in run.state or run.silent:
            begin(node, now)

    def free(index: int, now: float) -> None:
        run.silent -= 1
        run.state[index] = 0
        at[:] = [0] * cluster.nodes
        nodes, run.waiting = run.waiting, []
        for node in nodes:
            take(node, now)

    def leave(node: int, now: float) -> None:
        run.node_seconds += now - began[node]

    for node in range(cluster.nodes):
        begin(node, 0.0)
    last = 0.0
    while run.events:
        last, _, do = heappop(run.events)
        do(last)
    making = max(run.end, last if 0 in run.state else run.end)
    rest = sum(
        _alone(demand, cluster) for demand, state in zip(demands, run.state, strict=True) if state != 2
    )  # of which all nodes were lost for good: the one that writes the file makes them
    written = sum(demand.written for demand in demands)
    assembling = cluster.start + max(written / it for it in (cluster.read, cluster.write, cluster.network))
    assembling += rest
    node_seconds = run.node_seconds + assembling
    return Forecast(
        seconds=making + assembling,
        making=making,
        assembling=assembling,
        node_seconds=node_seconds,
        units=len(demands),
        again=run.again,
        read=run.read + written,
        written=run.written + written,
        cost=None if cluster.price is None else cluster.price * node_seconds / _HOUR,
        bound_by=_bound_by(demands, cluster),
    )


def _ends(demand: Demand, now: float, cluster: Cluster, reading: _Bus, writing: _Bus) -> float:
    """When a unit is made that is begun now."""
    over_network = (demand.read + demand.written) / cluster.network
    return cluster.unit + max(
        now + _computing(demand, cluster.threads),
        now + over_network,
        reading.until(now, demand.read),
        writing.until(now, demand.written),
    )


def _computing(demand: Demand, threads: int) -> float:
    """Seconds of a node: threads take chunks, and at the end some have none."""
    return demand.seconds / demand.chunks * math.ceil(demand.chunks / threads)


def _alone(demand: Demand, cluster: Cluster) -> float:
    return _ends(demand, 0.0, cluster, _Bus(cluster.read), _Bus(cluster.write))


def _bound_by(demands: Sequence[Demand], cluster: Cluster) -> str:
    each: Mapping[str, float] = {
        "computing": sum(_computing(it, cluster.threads) for it in demands) / cluster.nodes,
        "reading": sum(it.read for it in demands) / cluster.read,
        "writing": sum(it.written for it in demands) / cluster.write,
        "the nodes' network": sum(it.read + it.written for it in demands) / cluster.network / cluster.nodes,
    }
    return max(each, key=lambda name: each[name])
