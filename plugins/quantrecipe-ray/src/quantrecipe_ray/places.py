"""Places: where on a cluster's nodes a run has workers. Each place has one actor of Ray at a time.

vacant    nobody is there: the node couldn't open the order, or too many workers have died there
opening   its actor waits for CPUs, starts, and opens the order
open      it does a task, or waits for one
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import ray
from quantrecipe import __version__
from quantrecipe.api import Order, Task
from ray.cloudpickle import register_pickle_by_value
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from quantrecipe_ray import worker
from quantrecipe_ray.cluster import Node

__all__ = ["Place", "Places"]


@dataclass(slots=True, eq=False)
class Place:
    """A worker's place on a node.

    first:  the node was there when the run began
    died:   workers that have died here
    open:   the worker here has opened the order, and can be reached
    doubt:  why it can't be reached
    doubted: since when that is so, of time.monotonic
    ending: the small object that is there when what the worker does has ended; None while it has nothing to do
    result: the large one that then has the task's result
    """

    node: Node
    threads: int
    first: bool
    died: int = 0
    actor: Any = None
    open: bool = False
    doubt: RayError | None = None
    doubted: float = 0.0
    task: Task | None = None
    ending: Any = None
    result: Any = None

    def give(self, task: Task) -> None:
        """Have the worker do it."""
        self.task = task
        self.ending, self.result = self.actor.do.options(num_returns=2).remote(pickle.dumps(task))

    def take(self) -> Task | None:
        """What the worker was at has ended: which task that was; None if it was the opening."""
        task, self.task, self.ending, self.result = self.task, None, None, None
        return task

    def vacate(self) -> Task | None:
        """End the worker. Returns the task that it leaves."""
        if self.actor is not None:
            ray.kill(self.actor)
        self.actor, self.open, self.doubt = None, False, None
        return self.take()


class Places:
    """All places of a run.

    threads: of each worker; 0 for all CPUs of its node
    most:    workers at the same time; 0 for any number
    """

    def __init__(self, order: Order, *, threads: int, most: int) -> None:
        register_pickle_by_value(worker)  # type: ignore[no-untyped-call]  # a node may lack this package
        self._actor: Any = ray.remote(worker.Worker)
        self._order = ray.put(pickle.dumps(order))
        self._memory = order.memory
        self._threads, self._most = threads, most
        self._by_node: dict[str, list[Place]] = {}

    def __iter__(self) -> Iterator[Place]:
        return (place for places in self._by_node.values() for place in places)

    @property
    def taken(self) -> list[Place]:
        """Those where a worker is, or will be."""
        return [place for place in self if place.actor is not None]

    @property
    def per_node(self) -> int:
        """How many there are at most on one node; 0 if there are none."""
        return max(Counter(place.node.id for place in self.taken).values(), default=0)

    def gone(self, nodes: Iterable[Node]) -> list[Place]:
        """Remove the places of all other nodes, and return them."""
        left = {node.id for node in nodes}
        return [place for id_ in [*self._by_node] if id_ not in left for place in self._by_node.pop(id_)]

    def add(self, nodes: Iterable[Node], *, first: bool) -> None:
        """Have workers on these nodes, as far as there is room: one on each, then a second one on each, …"""
        nodes = [node for node in nodes if node.cpus >= max(1, self._threads)]
        for number in count():
            nodes = [node for node in nodes if number < self.room(node)]
            if not nodes:
                return
            for node in nodes:
                places = self._by_node.setdefault(node.id, [])
                if number < len(places):
                    continue
                if self._most and len(self.taken) >= self._most:
                    return
                places.append(Place(node=node, threads=self._threads or node.cpus, first=first))
                self.fill(places[-1])

    def by_cpus(self, node: Node) -> int:
        """How many workers a node has CPUs for."""
        return node.cpus // self._threads if self._threads else 1

    def room(self, node: Node) -> int:
        """How many of them there are: no more than it has memory for, but always one."""
        if not self._memory or not node.memory:
            return self.by_cpus(node)
        return min(self.by_cpus(node), max(1, node.memory // self._memory))

    def fill(self, place: Place) -> None:
        """Have a new worker there, which opens the order as soon as its CPUs are free."""
        place.actor = self._actor.options(
            num_cpus=place.threads,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node.id, soft=False),
        ).remote()
        place.ending = place.actor.open.remote(self._order, __version__, place.threads)
