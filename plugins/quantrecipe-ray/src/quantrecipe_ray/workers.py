"""RayWorkers: the workers of a run on all nodes, as quantrecipe sees them. The keeper's thread does the rest."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from typing import Any

import ray
from quantrecipe.api import Order, Outcome, Task, Workers
from ray.exceptions import RayError

from quantrecipe_ray.cluster import Cluster
from quantrecipe_ray.keeper import Keeper

__all__ = ["RayWorkers"]

_FETCH_SECONDS = 0.1
"""How long is waited for results that are on their way, before it is looked what else there is."""


class RayWorkers(Workers):
    """Closes the cluster's connection, too. wait: seconds for which there may be no node; others as in `Places`."""

    def __init__(self, order: Order, cluster: Cluster, *, threads: int, most: int, wait: float) -> None:
        self._cluster = cluster
        self._keeper = Keeper(order, cluster, threads=threads, most=most, wait=wait)

    @property
    def width(self) -> int:
        return self._keeper.width

    @property
    def per_machine(self) -> int:
        return self._keeper.per_node

    def begin(self, task: Task) -> None:
        with self._keeper.changed:
            self._keeper.queue.append(task)

    def ended(self, seconds: float) -> Outcome | None:
        keeper, until = self._keeper, time.monotonic() + seconds
        while True:
            rest = max(0.0, until - time.monotonic())
            with keeper.changed:
                if keeper.told:
                    return keeper.told.popleft()
                made = list(keeper.made)
                if not made:
                    keeper.require_hope()
                    keeper.changed.wait(rest)
            if made:
                found, _ = ray.wait(made, num_returns=1, timeout=min(rest, _FETCH_SECONDS), fetch_local=True)
                if found and (outcome := self._fetched(found[0])) is not None:
                    return outcome
            if not rest:
                return None

    def close(self) -> None:
        self._keeper.close()
        self._cluster.close()

    def _fetched(self, reference: Any) -> Outcome | None:
        """A task's outcome with its result. None where that was lost with its node: another worker makes it again."""
        with self._keeper.changed:
            outcome, task = self._keeper.made.pop(reference)
        try:
            data, *arrays = ray.get(reference)
            return replace(outcome, result=pickle.loads(data, buffers=arrays))  # of a worker of this run
        except RayError as error:
            self._keeper.again(task, outcome.where, error)
            return None
