"""RayExecutor: what `--executor ray` and its options mean."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import Any, ClassVar

from quantrecipe.api import Executor, Order, Workers

__all__ = ["RayExecutor"]


class RayExecutor(Executor):
    """Workers are actors of Ray. This process is on a node of the cluster, and all nodes see its files."""

    name: ClassVar[str] = "ray"
    summary: ClassVar[str] = "the nodes of a Ray cluster"
    option_schema: ClassVar[Any] = MappingProxyType(
        {
            "address": {
                "type": "string",
                "default": "",
                "description": "the cluster's, such as 10.0.0.1:6379; 'local' for one of this machine alone that lives "
                "as long as the run; '' for the one of RAY_ADDRESS, or that this machine is part of",
            },
            "threads": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "of each worker; a node has as many workers as it has CPUs for. 0: one with all CPUs",
            },
            "workers": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "that there are at most; with `threads`, a cluster that grows is asked for room for so "
                "many. 0: as many as there is room for",
            },
            "wait": {
                "type": "number",
                "minimum": 0,
                "default": 60,
                "description": "seconds to wait for a node when there is none",
            },
        }
    )

    def open(self, order: Order) -> Workers:
        # Ray prints what its nodes say to stdout, where --json has its document. It reads this when it is imported.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
        from quantrecipe_ray.cluster import connect
        from quantrecipe_ray.workers import RayWorkers

        cluster = connect(self.options["address"])
        try:
            return RayWorkers(
                order,
                cluster,
                threads=self.options["threads"],
                most=self.options["workers"],
                wait=self.options["wait"],
            )
        except BaseException:
            cluster.close()
            raise
