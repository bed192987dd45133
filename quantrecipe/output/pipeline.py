"""Pipeline: threads that take units of work from several flows, and what they come to, collected in order.

    def flow() -> Iterator[Pass]:              # what has to be done for one tensor
        yield Pass(units, work, collect)       # work(unit, slot) in any thread, collect(unit, result) in order
        ...                                    # here all of them are collected, and what they came to is known
        yield Pass(...)

    Pipeline(threads, make_slot).run(flows)

Nobody hands out work: each thread takes the next unit, does all of it, and collects what is then next in order. So a
tensor's hash, which has to see one unit after the other, is computed by whoever comes by, and several tensors' hashes
at once. A unit keeps its slot (buffers) until it is collected; the number of slots bounds memory. What is next is
decided in `schedule.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

from quantrecipe.output.schedule import Pass, Schedule, Step

__all__ = ["SLOTS", "Pass", "Pipeline"]

SLOTS = 2
"""For each thread: one that it works on, and one that waits to be collected."""

S = TypeVar("S")


class Pipeline(Generic[S]):
    """Threads, and the slots that they work on. `run` once."""

    def __init__(self, threads: int, make_slot: Callable[[], S]) -> None:
        self._threads = threads
        self._slots = [make_slot() for _ in range(SLOTS * threads)]
        self._changed = threading.Condition()
        self._stopped = False
        self._errors: list[tuple[tuple[int, int], BaseException]] = []
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None: a thread has ended

    def tell(self, call: Callable[[], None]) -> None:
        """Have it called in the thread that runs the pipeline."""
        self._calls.put(call)

    def run(self, flows: Iterable[Iterator[Pass[S]]]) -> None:
        """Do it all. Of errors, that of the first flow and unit is raised, when all threads have stopped."""
        self._schedule = Schedule(flows, self._slots)
        threads: list[threading.Thread] = []
        try:
            for number in range(self._threads):
                thread = threading.Thread(target=self._serve, name=f"quantize-{number}")
                thread.start()  # where the system allows no more threads, those that run are stopped, too
                threads.append(thread)
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
        step: Step[S] | None = None
        try:
            while (step := self._after(step)) is not None:
                step.do()
        except BaseException as error:  # noqa: BLE001  # raised in `run`
            self._stop((0, 0) if step is None else step.place, error)
        finally:
            self._calls.put(None)

    def _after(self, done: Step[S] | None) -> Step[S] | None:
        """What a thread does next that has done this; waits until there is something. None when all is done."""
        with self._changed:
            while not self._stopped:
                step = self._schedule.after(done)
                if self._schedule.ended:
                    self._changed.notify_all()
                    return None
                if self._schedule.offers:
                    self._changed.notify()  # who wakes does the same, so that all wake for whom there is something
                if step is not None:
                    return step
                self._changed.wait()
                done = None
            return None

    def _stop(self, place: tuple[int, int] = (0, 0), error: BaseException | None = None) -> None:
        with self._changed:
            self._stopped = True
            if error is not None:
                self._errors.append((place, error))
            self._changed.notify_all()
