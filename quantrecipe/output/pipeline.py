"""Pipeline: work done by threads on a fixed number of slots, results collected in the order of submission.

    with Pipeline(threads, make_slot) as pipeline:
        slot = pipeline.slot()                  # waits for the oldest work when all slots are in use
        pipeline.submit(slot, work, collect)    # work(slot) runs in a thread, collect(result) in the caller's
        pipeline.drain()                        # everything submitted is collected

Order makes hashes of results possible; the number of slots bounds memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["Pipeline"]

_SLOTS = 2
"""For each thread, so that reading and hashing go on while all threads are busy."""

S = TypeVar("S")
R = TypeVar("R")


class Pipeline(Generic[S]):
    """A pool of threads, and the slots that they work on. Used from one thread."""

    def __init__(self, threads: int, make_slot: Callable[[], S]) -> None:
        self._pool = ThreadPoolExecutor(threads, "quantize")
        self._free = [make_slot() for _ in range(_SLOTS * threads)]
        self._running: deque[tuple[S, Future[Any], Callable[[Any], None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the threads; what hasn't begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def slot(self) -> S:
        """A slot that nobody uses. Errors of the work that is collected meanwhile are raised."""
        while self._running and (not self._free or self._running[0][1].done()):
            self._take()
        return self._free.pop()

    def give_back(self, slot: S) -> None:
        """Return a slot that no work was submitted for."""
        self._free.append(slot)

    def submit(self, slot: S, work: Callable[[S], R], collect: Callable[[R], None]) -> None:
        """Have `work` done on the slot by a thread; `collect` gets the result, in the order of submission."""
        self._running.append((slot, self._pool.submit(work, slot), collect))

    def drain(self) -> None:
        """Collect the results of everything that was submitted."""
        while self._running:
            self._take()

    def _take(self) -> None:
        slot, future, collect = self._running.popleft()
        collect(future.result())
        self._free.append(slot)
