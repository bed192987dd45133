"""Pipeline: threads that take units of work from several flows, and what they come to, collected in order.

    def flow() -> Iterator[Pass]:              # what has to be done for one tensor
        yield Pass(units, work, collect)       # work(unit, slot) in any thread, collect(unit, result) in order
        ...                                    # here all of them are collected, and what they came to is known
        yield Pass(...)

    Pipeline(threads, make_slot).run(flows)

Nobody hands out work: each thread takes the next unit, does all of it, and collects what is then next in order. So a
tensor's hash, which has to see one unit after the other, is computed by whoever comes by, and several tensors' hashes
at once. A unit keeps its slot (buffers) until it is collected; the number of slots bounds memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["Pass", "Pipeline"]

_SLOTS = 2
"""For each thread: one that it works on, and one that waits to be collected."""

_CROWD = 8
"""Units of one flow on their way at once, before threads turn to another flow: so many, one thread can collect."""

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
class _Task(Generic[S]):
    """A unit that a thread has taken."""

    flow: _Flow[S]
    number: int
    unit: Any
    slot: S
    result: Any = None


class _Flow(Generic[S]):
    """A flow, and how far it is. Whatever changes is guarded by the pipeline's lock."""

    def __init__(self, number: int, passes: Iterator[Pass[S]]) -> None:
        self.number = number
        self.collecting = False
        self._passes = passes
        self._units: Iterator[Any] = iter(())
        self._next_unit: Any = None
        self._taken = self._collected = 0
        self._done: dict[int, _Task[S]] = {}

    def advance(self) -> bool:
        """Begin with the next pass; False if there is none. Called by one thread, when no unit is on its way."""
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
    def on_their_way(self) -> int:
        return self._taken - self._collected

    def take(self, slot: S) -> _Task[S]:
        """The next unit."""
        task = _Task(self, self._taken, self._next_unit, slot)
        self._next_unit = next(self._units, None)
        self._taken += 1
        return task

    def put(self, task: _Task[S]) -> None:
        """A unit is done."""
        self._done[task.number] = task

    def to_collect(self) -> _Task[S] | None:
        """What is next in order, if it is done."""
        return self._done.pop(self._collected, None)

    def collected(self) -> None:
        self._collected += 1


class Pipeline(Generic[S]):
    """Threads, and the slots that they work on. `run` once."""

    def __init__(self, threads: int, make_slot: Callable[[], S]) -> None:
        self._threads = threads
        self._free = deque(make_slot() for _ in range(_SLOTS * threads))
        self._changed = threading.Condition()
        self._open: list[_Flow[S]] = []
        self._busy = 0  # flows that a thread is opening or advancing
        self._more = True  # flows that nobody has opened
        self._stopped = False
        self._errors: list[tuple[tuple[int, int], BaseException]] = []
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None: a thread has ended

    def tell(self, call: Callable[[], None]) -> None:
        """Have it called in the thread that runs the pipeline."""
        self._calls.put(call)

    def run(self, flows: Iterable[Iterator[Pass[S]]]) -> None:
        """Do it all. Of errors, that of the first flow and unit is raised, when all threads have stopped."""
        self._flows = enumerate(flows)
        names = (f"quantize-{number}" for number in range(self._threads))
        threads = [threading.Thread(target=self._serve, name=name) for name in names]
        for thread in threads:
            thread.start()
        try:
            working = len(threads)
            while working:
                call = self._calls.get()
                if call is None:
                    working -= 1
                else:
                    call()
        finally:  # all is done, or whoever watches wants no more of it
            self._stop()
            for thread in threads:
                thread.join()
        if self._errors:
            raise min(self._errors, key=lambda found: found[0])[1]

    def _serve(self) -> None:
        """What each thread does."""
        task = None
        try:
            while (task := self._take()) is not None:
                task.result = task.flow.work(task.unit, task.slot)
                self._collect(task)
        except BaseException as error:  # noqa: BLE001  # raised in `run`
            place = (task.flow.number, task.number) if task is not None else (0, 0)
            self._stop(place, error)
        finally:
            self._calls.put(None)

    def _stop(self, place: tuple[int, int] = (0, 0), error: BaseException | None = None) -> None:
        with self._changed:
            self._stopped = True
            if error is not None:
                self._errors.append((place, error))
            self._changed.notify_all()

    def _take(self) -> _Task[S] | None:
        """The next unit, with a slot; waits where there is neither. None when there will be no more."""
        while True:
            with self._changed:
                while not self._stopped:
                    flow = self._flow_to_serve() if self._free else None
                    if flow is not None:
                        return flow.take(self._free.pop())
                    if self._free and self._more:
                        break
                    if not self._open and not self._busy and not self._more:
                        return None
                    self._changed.wait()
                else:
                    return None
                number, passes = next(self._flows, (0, None))
                if passes is None:
                    self._more = False
                    self._changed.notify_all()
                    continue
                self._busy += 1
            self._advance(_Flow(number, passes))

    def _flow_to_serve(self) -> _Flow[S] | None:
        """The one of those with units that has the fewest on their way; None if another had better be opened."""
        least = min(
            (flow for flow in self._open if flow.has_units), key=lambda f: f.on_their_way, default=None
        )
        crowded = least is not None and least.on_their_way >= _CROWD
        return None if crowded and self._more else least

    def _advance(self, flow: _Flow[S]) -> None:
        """Find out what is to be done for the flow next. Takes time, so that it isn't done under the lock."""
        goes_on = False
        try:
            goes_on = flow.advance()
        finally:
            with self._changed:
                self._busy -= 1
                if goes_on:
                    self._open.append(flow)
                self._changed.notify_all()

    def _collect(self, task: _Task[S]) -> None:
        """Collect this task and those behind it, unless a thread is at it, which then does it."""
        flow = task.flow
        with self._changed:
            flow.put(task)
            if flow.collecting:
                return
            flow.collecting = True
        while True:
            with self._changed:
                ready = flow.to_collect()
                if ready is None:
                    flow.collecting = False
                    if flow.has_units or flow.on_their_way:
                        return
                    self._open.remove(flow)
                    self._busy += 1
                    break
            flow.collect(ready.unit, ready.result)
            with self._changed:
                flow.collected()
                self._free.append(ready.slot)
                self._changed.notify()
        self._advance(flow)
