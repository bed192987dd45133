"""Keeper: a thread that keeps workers busy, so that none waits while whoever gives the tasks writes what has come.

    nodes      are looked for every second; each that has room gets workers, and so do those that join later
    tasks      wait in one queue; a worker gets the next when it is free, and never has two
    results    stay where they were made until Ray has room for them on this node
    a worker that dies   is replaced; its task is told as lost
    a node that goes     its tasks are put into the queue again: that spot machines end is no fault of theirs

A node that can't open the order ends the run if it was there at the beginning, so that what is missing is installed
before hours have gone. If it joined later, it isn't used, and that is told.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from quantrecipe import __version__
from quantrecipe.api import Order, Outcome, Task, sendable
from quantrecipe.errors import PluginError, QuantrecipeError
from ray.exceptions import ActorUnavailableError, RayError

from quantrecipe_ray.cluster import Cluster, Node
from quantrecipe_ray.places import Place, Places

__all__ = ["Keeper"]

_LOOK_SECONDS = 1.0
_WAIT_SECONDS = 0.05
_DIED = 3
"""Workers that may die on a node that lives on, before their place stays empty."""

_MOVED = 5
"""Nodes that may go away with a task before it counts as lost: one that takes all memory can end a node, too."""

_DOUBT_SECONDS = 60.0
"""For which a worker can't be reached, and its node seems to live, before another worker takes its place. Ray finds out
within half a minute that a node is dead."""

_TOGETHER_SECONDS = 5.0
"""What several nodes lack is told together, if they say so within this time."""

_PATIENCE_SECONDS = 60.0
"""Then it is told that no worker has begun. To open an order takes a second, or half a minute if kernels compile."""

_CLOSE_SECONDS = 5.0
_SHOWN = 300
"""Characters of what Ray says of a death."""


class Keeper:
    """For the thread that has it: `changed` guards the others.

    queue: tasks that wait for a worker
    told:  what else has happened
    made:  outcomes without their results, by the objects that these are
    """

    def __init__(self, order: Order, cluster: Cluster, *, threads: int, most: int, wait: float) -> None:
        self.changed = threading.Condition()
        self.queue: deque[Task] = deque()
        self.told: deque[Outcome] = deque()
        self.made: dict[Any, tuple[Outcome, Task]] = {}
        self.width = self.per_node = 0
        self._cluster, self._threads, self._wait = cluster, threads, wait
        self._places = Places(order, threads=threads, most=most)
        self._nodes: tuple[Node, ...] = ()
        self._moved: Counter[int] = Counter()
        self._crowded: set[str] = set()
        self._refused: list[tuple[Place, Exception]] = []
        self._last, self._vacant = "", False
        self._begun = self._had_workers = self._looked = self._refused_at = time.monotonic()
        self._patient = True
        self._closed = threading.Event()
        if cluster.note:
            self._tell("", cluster.note)
        if most and threads:
            cluster.ask_for(most, threads)
        self._look(first=True)
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    def require_hope(self) -> None:
        """PluginError where no worker is left, and none will come."""
        if self.width or self._refused:
            return
        if self._vacant:
            raise PluginError("no worker is left on any node", self._last)
        if time.monotonic() - self._had_workers < self._wait:
            return
        sizes = "; ".join(f"{node.name}: {node.cpus}" for node in self._nodes) or "none"
        raise PluginError(
            f"the cluster has had no node with {self._threads or 1} CPUs for {self._wait:g} s "
            f"(nodes and their CPUs: {sizes})",
            "add nodes (ray start --address=HOST:PORT), or set the executor's option threads, or wait",
        )

    def again(self, task: Task, where: str, why: object) -> None:
        """Have another worker do a task that went away with its node."""
        self._moved[task.number] += 1
        if self._moved[task.number] > _MOVED:
            self._tell(where, _line(why), task)
            return
        with self.changed:
            self.queue.appendleft(task)

    def close(self) -> None:
        """End all workers, whatever they do."""
        self._closed.set()
        self._thread.join(_CLOSE_SECONDS)
        for place in self._places.taken:
            with suppress(RayError, ConnectionError):  # it may have gone, and the cluster with it
                place.vacate()

    def _keep(self) -> None:
        try:
            while not self._closed.is_set():
                if time.monotonic() - self._looked > _LOOK_SECONDS:
                    self._look()
                self._give()
                self._collect()
                self._refuse()
                self._count()
        except Exception as error:  # noqa: BLE001  # it is raised where the tasks come from
            if not self._closed.is_set():
                self._tell("this machine", "", error=sendable(error, "this machine"))

    def _look(self, *, first: bool = False) -> None:
        """See which nodes there are."""
        self._looked = time.monotonic()
        self._nodes = tuple(self._cluster.nodes())
        left = self._places.gone(self._nodes)
        for place in left:
            task = place.vacate()
            if task is not None:
                self.again(task, place.node.name, "its node has gone away")
        for name in sorted({place.node.name for place in left}):
            self._tell(name, "has gone away; others do its work")
        for place in self._places.taken:
            if place.doubt is not None and self._looked - place.doubted > _DOUBT_SECONDS:
                self._died(place, place.doubt)
        self._places.add(self._nodes, first=first)
        for node in self._nodes:
            by_cpus, room = self._places.by_cpus(node), self._places.room(node)
            if room < by_cpus and node.id not in self._crowded:
                self._crowded.add(node.id)
                self._tell(node.name, f"has memory for {room} of {by_cpus} workers")
        self._count()
        if self._patient and self._looked - self._begun > _PATIENCE_SECONDS:
            self._patient = False
            if self.width and not any(place.open for place in self._places):
                self._tell("", "no worker has begun: others may have the CPUs (`ray status` shows them)")

    def _count(self) -> None:
        self.width, self.per_node = len(self._places.taken), self._places.per_node
        self._vacant = not self.width and any(self._places)
        if self.width:
            self._had_workers = time.monotonic()

    def _give(self) -> None:
        """Give each worker that has nothing to do a task."""
        free = [place for place in self._places if place.open and place.ending is None]
        for place in free:
            with self.changed:
                if not self.queue:
                    return
                task = self.queue.popleft()
            place.give(task)

    def _collect(self) -> None:
        """Wait for a moment for something that ends, and see what it is."""
        busy = {place.ending: place for place in self._places if place.ending is not None}
        if not busy:
            time.sleep(_WAIT_SECONDS)
            return
        ended, _ = ray.wait(list(busy), num_returns=1, timeout=_WAIT_SECONDS, fetch_local=False)
        for reference in ended:
            place = busy[reference]
            try:
                said = ray.get(reference)
            except ActorUnavailableError as error:
                self._doubt(place, error)
            except RayError as error:  # what a task raises is in what is said
                self._died(place, error)
            else:
                if place.open:
                    self._done(place, pickle.loads(said))  # of a worker of this run
                else:
                    self._opened(place, *said)

    def _done(self, place: Place, outcome: Outcome) -> None:
        result, task = place.result, place.take()
        if task is None:
            return
        if outcome.error is not None:
            self._tell(outcome.where, "", task, error=outcome.error)
            return
        ray.wait([result], timeout=0, fetch_local=True)  # Ray begins to fetch it, as soon as there is room
        with self.changed:
            self.made[result] = outcome, task
            self.changed.notify()

    def _opened(self, place: Place, wrong: str, error: bytes) -> None:
        place.take()
        if not wrong and not error:
            place.open = True
            return
        place.vacate()
        name = place.node.name
        found: Exception = PluginError(f"node {name} {wrong}", f"install quantrecipe {__version__} there")
        if error:
            found = pickle.loads(error)  # of a worker of this run
        if place.first and not place.died:
            if not self._refused:
                self._refused_at = time.monotonic()
            self._refused.append((place, found))
            return
        self._last = f"{name}: {_line(found)}"
        self._tell(name, f"isn't used: {_line(found)}")

    def _refuse(self) -> None:
        """Tell what nodes lack that were there at the beginning, when all that are opening have had time to say so."""
        if not self._refused:
            return
        opening = any(place.first and not place.open for place in self._places.taken)
        if not opening or time.monotonic() - self._refused_at > _TOGETHER_SECONDS:
            where, error = _together(self._refused)
            self._tell(where, "", error=error)
            self._refused = []

    def _doubt(self, place: Place, error: RayError) -> None:
        """A worker can't be reached. Soon the cluster knows if its node is gone; its task doesn't wait for that."""
        place.open, place.doubt, place.doubted = False, error, time.monotonic()
        task = place.take()
        if task is not None:
            self.again(task, place.node.name, error)

    def _died(self, place: Place, error: RayError) -> None:
        """A worker has died, or its node has."""
        name = place.node.name
        if place.node.id not in {node.id for node in self._cluster.nodes()}:
            self._look()
            return
        task, place.died = place.vacate(), place.died + 1
        self._last = f"{name}: {_line(error)}"
        self._tell(name, _line(error), task)
        if place.died <= _DIED:
            self._places.fill(place)

    def _tell(
        self, where: str, lost: str, task: Task | None = None, *, error: Exception | None = None
    ) -> None:
        number = None if task is None else task.number
        with self.changed:
            self.told.append(Outcome(number=number, where=where, lost=lost, error=error))
            self.changed.notify()


def _together(refused: Sequence[tuple[Place, Exception]]) -> tuple[str, Exception]:
    """The nodes, and what is wrong with all of them."""
    found: dict[str, Exception] = {}
    for place, error in refused:
        found.setdefault(place.node.name, error)
    first = next(iter(found.values()))
    same = {name: error for name, error in found.items() if type(error) is type(first)}
    if isinstance(first, QuantrecipeError):
        problems = [
            replace(it, what=it.what if name in it.what else f"node {name}: {it.what}")
            for name, error in same.items()
            if isinstance(error, QuantrecipeError)
            for it in error.problems
        ]
        notes = getattr(first, "__notes__", [])
        first = type(first)(problems)
        for note in notes:
            first.add_note(note)
    return ", ".join(same), first


def _line(why: object) -> str:
    text = " ".join(str(why).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
