"""connect: the connection with a Ray cluster, and which of its nodes can have workers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from quantrecipe.errors import PluginError
from ray.exceptions import RayError

__all__ = ["Cluster", "Node", "connect"]

_ANSWER_SECONDS = 10.0
"""Ray itself goes on for minutes where nobody answers under an address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A machine of the cluster. One that goes away and comes back has another id.

    name:   for people: as `ray start --node-name` has it, and the host
    memory: bytes that Ray gives to work there; 0 where it doesn't say
    """

    id: str
    name: str
    cpus: int
    memory: int = 0


class Cluster:
    """A connection. One that was there before stays when this is closed."""

    def __init__(self, *, ours: bool, note: str = "") -> None:
        self._ours, self._asked = ours, False
        self.note = note
        """What a user should know of it; "" for nothing."""

    def nodes(self) -> Iterator[Node]:
        """Those that are up and have CPUs."""
        for it in ray.nodes():  # type: ignore[no-untyped-call]  # Ray has annotations in some places only
            cpus = int(it["Resources"].get("CPU", 0)) if it["Alive"] else 0
            if cpus:
                name, host = it.get("NodeName") or "", it["NodeManagerHostname"]
                both = f"{name} ({host})" if name and name != host else host
                memory = int(it["Resources"].get("memory", 0))
                yield Node(id=it["NodeID"], name=both, cpus=cpus, memory=memory)

    def ask_for(self, workers: int, threads: int) -> None:
        """Have the cluster's autoscaler, if it has one, make room for so many workers of so many threads."""
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=[{"CPU": threads}] * workers)
        self._asked = bool(workers)

    def close(self) -> None:
        if self._asked:
            with suppress(Exception):  # the cluster may be gone, and what it was asked for with it
                self.ask_for(0, 0)
        if self._ours:
            ray.shutdown()


def connect(address: str) -> Cluster:
    """The cluster under an address; see RayExecutor. PluginError where there is none."""
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if address not in ("", "auto", there):
            raise PluginError(
                f"this process is connected with the Ray cluster {there}, not with {address}",
                "leave the address out, or call ray.shutdown() before",
            )
        return Cluster(ours=False)
    wanted = address or os.environ.get("RAY_ADDRESS", "")
    if wanted.startswith("ray://"):
        raise PluginError(
            f"{wanted} is an address of Ray's client, through which weights would travel slowly",
            "start quantrecipe on a node of the cluster (ray job submit, ray exec), and leave the address out",
        )
    if wanted != "local":
        _require_answer(wanted)
        try:
            _join(wanted or "auto")
            return Cluster(ours=True)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            if wanted:
                raise _no_cluster(wanted, error) from error
    _join("local", include_dashboard=False)
    return Cluster(
        ours=True, note="" if wanted else "no Ray cluster runs here; this machine does the work alone"
    )


def _join(address: str, **more: Any) -> None:
    """Connect, and have SIGTERM end this process as before: Ray's handler ends it without a word.

    There is one bar on the terminal, and nothing of Ray's beside it.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _require_answer(address: str) -> None:
    """PluginError where nothing listens under HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> PluginError:
    return PluginError(
        f"no Ray cluster can be joined under {address}: {' '.join(str(error).split())}",
        "start quantrecipe on a node of the cluster; `ray start --address=HOST:PORT --num-cpus=0` makes a machine one "
        "that does no work",
    )
