"""threads, processes: executors of this machine. What starts their workers is imported with the first of them."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import Any, ClassVar

from quantrecipe.api import Executor, Order, Workers
from quantrecipe.errors import PluginError
from quantrecipe.units import memory_text

__all__ = ["Processes", "Threads"]

_OPTIONS = MappingProxyType(
    {
        "workers": {"type": "integer", "minimum": 1, "default": 2, "description": "how many"},
        "threads": {"type": "integer", "minimum": 1, "default": 1, "description": "of each worker"},
    }
)


class Threads(Executor):
    """The least that an executor is. `apply` by itself does better: its threads share the rows of a tensor."""

    name: ClassVar[str] = "threads"
    summary: ClassVar[str] = "threads of this process"
    option_schema: ClassVar[Any] = _OPTIONS

    def open(self, order: Order) -> Workers:
        from quantrecipe.executors.thread_workers import ThreadWorkers

        workers, note = _room(self.options["workers"], order.memory)
        return ThreadWorkers(order, workers, self.options["threads"], note)


class Processes(Executor):
    """Has on one machine what clusters rely on: orders that travel, workers that die."""

    name: ClassVar[str] = "processes"
    summary: ClassVar[str] = "processes of this machine"
    option_schema: ClassVar[Any] = _OPTIONS

    def open(self, order: Order) -> Workers:
        from quantrecipe.executors.process_workers import ProcessWorkers

        if not sys.executable or getattr(sys, "frozen", False):  # no Python there, but perhaps an application
            raise PluginError("there is no Python that could be started as a worker", "leave out --executor")
        workers, note = _room(self.options["workers"], order.memory)
        return ProcessWorkers(order, workers, self.options["threads"], note)


def _room(workers: int, memory: int) -> tuple[int, str]:
    """How many workers, of so many bytes each, the free memory has room for, one at least; and what to say of it.

    What they share, such as pages of a model's file, is counted for each: a guess that is too high costs some time, one
    that is too low the run.
    """
    if not memory:
        return workers, ""
    import psutil  # only where an order needs memory

    free = int(psutil.virtual_memory().available)
    fit = max(1, min(workers, free // memory))
    if fit == workers:
        return workers, ""
    each, there = memory_text(memory), memory_text(free)
    return fit, f"{fit} of {workers} workers: each takes about {each} of memory, and {there} are free"
