"""threads, processes: executors of this machine. What starts their workers is imported with the first of them."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import Any, ClassVar

from quantrecipe.api import Executor, Order, Workers
from quantrecipe.errors import PluginError

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

        return ThreadWorkers(order, self.options["workers"], self.options["threads"])


class Processes(Executor):
    """Has on one machine what clusters rely on: orders that travel, workers that die."""

    name: ClassVar[str] = "processes"
    summary: ClassVar[str] = "processes of this machine"
    option_schema: ClassVar[Any] = _OPTIONS

    def open(self, order: Order) -> Workers:
        from quantrecipe.executors.process_workers import ProcessWorkers

        if not sys.executable or getattr(sys, "frozen", False):  # no Python there, but perhaps an application
            raise PluginError("there is no Python that could be started as a worker", "leave out --executor")
        return ProcessWorkers(order, self.options["workers"], self.options["threads"])
