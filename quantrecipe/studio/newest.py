"""Newest: a thread that works on the newest request first; older ones of the same kind don't get their turn.

While a slider moves, many mixes are asked for, and only the last one is looked at. Work that has begun isn't stopped.
The thread is a daemon: when the program ends, it isn't waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, TypeVar

__all__ = ["Newest", "SupersededError"]

T = TypeVar("T")


class SupersededError(Exception):
    """A newer request took the place of this one."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    answer: Future[Any]

    def run(self) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        try:
            self.answer.set_result(self.work())
        except BaseException as error:  # noqa: BLE001  # whoever waits for the answer gets it
            self.answer.set_exception(error)


class Newest:
    """Work that is waiting, by its kind, and the thread that does it."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Job] = {}
        self._change = Condition()
        self._ended = False
        Thread(target=self._work, name="studio", daemon=True).start()

    def ask(self, kind: str, work: Callable[[], T]) -> Future[T]:
        """The answer to come: SupersededError where another request of this kind comes before its turn."""
        job = _Job(work, Future())
        with self._change:
            older = self._waiting.pop(kind, None)
            self._waiting[kind] = job  # the last one in
            self._change.notify()
        if older is not None and older.answer.set_running_or_notify_cancel():
            older.answer.set_exception(SupersededError())
        return job.answer

    def end(self) -> None:
        """Let the thread end when it has done what is waiting."""
        with self._change:
            self._ended = True
            self._change.notify()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                _, job = self._waiting.popitem()
            job.run()
