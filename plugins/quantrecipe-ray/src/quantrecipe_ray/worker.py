"""What runs on a node. Ray sends this module there as it is, so a node needs nothing but Ray and what the order names.

Therefore it imports nothing but the standard library before it knows that quantrecipe is there, and what it returns is
understood without quantrecipe, too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

__all__ = ["Worker"]


class Worker:
    """Opens an order once, and then does its tasks."""

    def __init__(self) -> None:
        self._do: Callable[[Any], Any] | None = None

    def open(self, order: bytes, version: str, threads: int) -> tuple[str, bytes]:
        """Open the order. Returns what is wrong with quantrecipe there, or the error of the order as a pickle.

        version: of quantrecipe, without which the order isn't even read
        """
        try:
            from quantrecipe import __version__ as found
        except ImportError as error:
            return f"has no quantrecipe ({error})", b""
        if found != version:
            return f"has quantrecipe {found} (expected: {version})", b""
        from quantrecipe.api import sendable

        try:
            self._do = pickle.loads(order).open(threads)
        except Exception as error:  # noqa: BLE001  # it is raised where the tasks come from
            return "", pickle.dumps(sendable(error, _here()))
        return "", b""

    def do(self, task: bytes) -> tuple[bytes, list[Any]]:
        """What became of a task, without its result; and the result. Both are pickles, the second may be large: behind
        it are the arrays in it, which Ray writes to its memory, and maps there, without a copy.

        Ray keeps what is small with whoever asked for it, who so knows at once that this worker is free, and keeps what
        is large here until it is fetched.
        """
        from dataclasses import replace

        import numpy
        from quantrecipe.api import sendable

        assert self._do is not None  # noqa: S101  # nobody gives tasks to a worker that couldn't be opened
        outcome = self._do(pickle.loads(task))
        result: list[Any] = []
        buffers: list[pickle.PickleBuffer] = []
        try:
            data = pickle.dumps(outcome.result, protocol=5, buffer_callback=buffers.append)
            result = [data, *(numpy.frombuffer(it.raw(), numpy.uint8) for it in buffers)]
        except Exception as error:  # noqa: BLE001  # a result that can't travel is the function's mistake
            outcome = replace(outcome, error=sendable(error, _here()))
        return pickle.dumps(replace(outcome, result=None)), result


def _here() -> str:
    import os
    import platform

    return f"{platform.node()} (process {os.getpid()})"
