"""Executors that run on this machine, and what gives tasks to all kinds. `ALL` holds one of each."""

from __future__ import annotations

from quantrecipe.api import Executor
from quantrecipe.executors.local import Processes, Threads

__all__ = ["ALL"]

ALL: tuple[Executor, ...] = (Threads(), Processes())
