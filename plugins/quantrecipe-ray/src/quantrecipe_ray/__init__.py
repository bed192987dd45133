"""The hook: an executor for quantrecipe that runs on a Ray cluster. Ray itself is imported when the executor is opened.

executor.py   RayExecutor: its name and its options
cluster.py    the connection with a cluster, and which of its nodes can have workers
workers.py    RayWorkers: the workers of a run, on all these nodes
worker.py     one of them; it is sent to its node
"""

from __future__ import annotations

from collections.abc import Iterable

from quantrecipe.api import Executor, hookimpl

from quantrecipe_ray.executor import RayExecutor

__all__ = ["QUANTRECIPE_API", "RayExecutor"]

QUANTRECIPE_API = 1
"""The version of the plugin interface that this package is written for."""


@hookimpl
def quantrecipe_executors() -> Iterable[Executor]:
    """The executor."""
    return [RayExecutor()]
