"""Workers of the executor `threads`: threads of this process."""

from __future__ import annotations

import platform
import threading
from queue import Empty, SimpleQueue

from quantrecipe.api import Order, Outcome, Task, Workers, sendable

__all__ = ["ThreadWorkers"]


class ThreadWorkers(Workers):
    def __init__(self, order: Order, workers: int, threads: int, note: str = "") -> None:
        """note: what the user should know of them; "" for nothing."""
        self._order, self._each = order, threads
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._ended: SimpleQueue[Outcome] = SimpleQueue()
        if note:
            self._ended.put(Outcome(number=None, lost=note))
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def width(self) -> int:
        return len(self._threads)

    def begin(self, task: Task) -> None:
        self._tasks.put(task)

    def ended(self, seconds: float) -> Outcome | None:
        try:
            return self._ended.get(timeout=seconds)
        except Empty:
            return None

    def close(self) -> None:
        while not self._tasks.empty():  # nobody wants what hasn't begun
            self._tasks.get()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        where = f"{platform.node()} ({threading.current_thread().name})"
        try:
            do = self._order.open(self._each)
        except Exception as error:  # noqa: BLE001  # it is raised where the tasks come from
            self._ended.put(Outcome(number=None, where=where, error=sendable(error, where)))
            return
        while (task := self._tasks.get()) is not None:
            self._ended.put(do(task))
