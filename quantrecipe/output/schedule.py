"""Schedule: what a worker does next, given what it has just done. No threads, no clock: whoever asks has both.

    Work(task)     read, encode and write a unit
    Collect(task)  take note of a unit, in order
    Advance(flow)  find out what has to be done for a flow next

`Pipeline` asks with threads; `benchmarks/many_cores.py` asks with 64 simulated ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Advance", "Collect", "Flow", "Pass", "Schedule", "Step", "Task", "Work"]

_CROWD = 8
"""Units of one flow on their way at once, before workers turn to another flow: so many, one worker can collect."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Pass(Generic[S]):
    """Units of work that may be done in any order.

    work:    (unit, slot) → result; in any thread, several at once
    collect: (unit, result); in the order of the units, in any thread, never two at once
    """

    units: Iterable[Any]
    work: Callable[[Any, S], Any]
    collect: Callable[[Any, Any], None]


@dataclass(slots=True)
class Task(Generic[S]):
    """A unit that a worker has taken, and the slot that is its until it is collected."""

    flow: Flow[S]
    number: int
    unit: Any
    slot: S
    result: Any = None


class Flow(Generic[S]):
    """The passes of one flow, and how far they are. Changed by the schedule alone."""

    def __init__(self, number: int, passes: Iterator[Pass[S]]) -> None:
        self.number = number
        self._passes = passes
        self._units: Iterator[Any] = iter(())
        self._next_unit: Any = None
        self._taken = self._collected = 0
        self._done: dict[int, Task[S]] = {}

    def advance(self) -> bool:
        """Begin with the next pass; False if there is none. Called by one worker, when no unit is on its way."""
        for current in self._passes:
            self.work, self.collect = current.work, current.collect
            self._units = iter(current.units)
            self._next_unit = next(self._units, None)
            if self._next_unit is not None:
                return True
        return False

    @property
    def has_units(self) -> bool:
        return self._next_unit is not None

    @property
    def taken(self) -> int:
        """Units so far, over all passes."""
        return self._taken

    @property
    def on_their_way(self) -> int:
        return self._taken - self._collected

    def take(self, slot: S) -> Task[S]:
        """The next unit."""
        task = Task(self, self._taken, self._next_unit, slot)
        self._next_unit = next(self._units, None)
        self._taken += 1
        return task

    def put(self, task: Task[S]) -> None:
        """A unit is done."""
        self._done[task.number] = task

    def to_collect(self) -> Task[S] | None:
        """What is next in order, if it is done and nobody collects it: that one counts as collected when it is."""
        return self._done.pop(self._collected, None)

    def collected(self) -> None:
        self._collected += 1


class Step(ABC, Generic[S]):
    """Something to do, which takes time: no worker keeps others from asking meanwhile."""

    @abstractmethod
    def do(self) -> None: ...

    @property
    @abstractmethod
    def place(self) -> tuple[int, int]:
        """(flow, unit): of errors, that of the first place is raised."""


@dataclass(slots=True)
class Work(Step[S]):
    task: Task[S]

    def do(self) -> None:
        self.task.result = self.task.flow.work(self.task.unit, self.task.slot)

    @property
    def place(self) -> tuple[int, int]:
        return self.task.flow.number, self.task.number


@dataclass(slots=True)
class Collect(Step[S]):
    task: Task[S]

    def do(self) -> None:
        self.task.flow.collect(self.task.unit, self.task.result)

    @property
    def place(self) -> tuple[int, int]:
        return self.task.flow.number, self.task.number


@dataclass(slots=True)
class Advance(Step[S]):
    """goes_on: the flow has a pass more."""

    flow: Flow[S]
    goes_on: bool = False

    def do(self) -> None:
        self.goes_on = self.flow.advance()

    @property
    def place(self) -> tuple[int, int]:
        return self.flow.number, self.flow.taken


class Schedule(Generic[S]):
    """Flows, slots, and what workers are at. One worker at a time may ask."""

    def __init__(self, flows: Iterable[Iterator[Pass[S]]], slots: Iterable[S]) -> None:
        self._flows = enumerate(flows)
        self._free = list(slots)
        self._open: list[Flow[S]] = []
        self._advancing = 0  # flows that a worker is at to open or advance
        self._more = True  # flows that nobody has opened

    @property
    def ended(self) -> bool:
        """All is done, and there will be no step more."""
        return not (self._open or self._advancing or self._more)

    @property
    def offers(self) -> bool:
        """There is something to do for one worker more, who therefore shouldn't wait."""
        return bool(self._free) and (self._more or any(flow.has_units for flow in self._open))

    def after(self, done: Step[S] | None) -> Step[S] | None:
        """What a worker does next that has done this (None: it comes, or has waited).

        None: there is nothing to do for it until another has done something, or for ever if all has `ended`.
        """
        following: Step[S] | None = None
        if isinstance(done, Work):
            done.task.flow.put(done.task)
            following = self._to_collect(done.task.flow)
        elif isinstance(done, Collect):
            done.task.flow.collected()
            self._free.append(done.task.slot)
            following = self._to_collect(done.task.flow)
        elif isinstance(done, Advance):
            self._advancing -= 1
            if done.goes_on:
                self._open.append(done.flow)
        return following or self._take()

    def _to_collect(self, flow: Flow[S]) -> Step[S] | None:
        """The flow's next unit in order, if it is done; the flow's next pass, if that was all of this one."""
        ready = flow.to_collect()
        if ready is not None:
            return Collect(ready)
        if flow.has_units or flow.on_their_way:
            return None
        self._open.remove(flow)
        self._advancing += 1
        return Advance(flow)

    def _take(self) -> Step[S] | None:
        """A unit that nobody has taken, or a flow that nobody has opened."""
        if not self._free:
            return None
        flow = self._flow_to_serve()
        if flow is None and self._more:
            found = next(self._flows, None)
            if found is not None:
                self._advancing += 1
                return Advance(Flow(*found))
            self._more = False
            flow = self._flow_to_serve()  # a crowded one, as there is no other
        return None if flow is None else Work(flow.take(self._free.pop()))

    def _flow_to_serve(self) -> Flow[S] | None:
        """The one of those with units that has the fewest on their way; None if another had better be opened."""
        least = min(
            (flow for flow in self._open if flow.has_units), key=lambda f: f.on_their_way, default=None
        )
        crowded = least is not None and least.on_their_way >= _CROWD
        return None if crowded and self._more else least
