"""Elsewhere: a model that the workers of an executor have open; functions are sent there as to a `Session`.

Each worker opens the model in a session of its own (`open_worker`), and is asked for the tokens of the texts, and for
the sums of one group of chunks after the other. They come back in the order of the groups, so that they are added up as
in one process. What the process of llama.cpp dies of is no error of the task: the worker opens the model again.
"""

from __future__ import annotations

import platform
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, count
from pathlib import Path
from typing import Any, TypeVar

from quantrecipe.api import Executor, LostTaskError, Order, Task, Workers
from quantrecipe.calibration.collect import Group, WorkerNote, sums_of
from quantrecipe.calibration.collector import GroupSums, Learned
from quantrecipe.engine import Engine, engine_facts, find_engine, named_engine
from quantrecipe.engine.language_model import LanguageModel, ModelFacts
from quantrecipe.engine.session import Session, Tell, existing_gguf, shards_of
from quantrecipe.errors import EvaluationError
from quantrecipe.executors.run_tasks import run_in_order, run_tasks
from quantrecipe.output.shares.same_there import OURS, keys_of, require_same

__all__ = ["Elsewhere", "open_elsewhere", "open_worker"]

T = TypeVar("T")


@contextmanager
def open_elsewhere(
    executor: Executor,
    model: str | Path,
    tell: Tell,
    *,
    memory: int = 0,
    gpu_layers: int | None = None,
    engine: Engine | str | Path | None = None,
    overrides: dict[str, int] | None = None,
) -> Iterator[Elsewhere]:
    """The model, opened by the executor's workers; others as for `Session`, and the executor has options for threads.

    tell:   hears `WorkerNote`
    memory: bytes that a worker takes, about
    engine: where llama.cpp is, on all machines if it was named; else each finds its own
    EvaluationError where llama.cpp or the model isn't fit for it, ModelError where a worker's model is another file.
    """
    path = existing_gguf(model)
    given = {
        "path": path.resolve(),
        "files": keys_of(shards_of(path)),
        "engine": named_engine(engine),
        "version": engine_facts(find_engine(engine)).version,
        "gpu_layers": gpu_layers,
        "overrides": dict(overrides or {}),
    }
    order = Order(
        function=f"{__name__}:open_worker",
        given=given,
        packages=(OURS,),
        memory=memory,
    )
    with executor.open(order) as workers:
        yield Elsewhere(workers, tell)


class Elsewhere:
    """What a Session is, on other processes or machines. facts: what llama.cpp says of the model."""

    def __init__(self, workers: Workers, tell: Tell) -> None:
        self._workers, self._tell = workers, tell
        self._numbers = count()  # no two tasks have one: what was begun twice may end late
        self.facts: ModelFacts = self.call(_facts)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, called with the open model by one of the workers: see `Session.call`."""
        (found,) = self.each(function, [(1, arguments)], function.__name__)
        return found

    @property
    def width(self) -> int:
        """How many calls can run at the same time now."""
        return max(1, self._workers.width)

    @property
    def per_machine(self) -> int:
        """How many of the workers may share a machine's memory."""
        return max(1, self._workers.per_machine)

    def each(
        self,
        function: Callable[..., T],
        calls: Iterable[tuple[int, tuple[Any, ...]]],
        what: str,
        *,
        in_order: bool = True,
    ) -> Iterator[T]:
        """The same of many calls, in their order, or as they end.

        calls: how much work each is, and its arguments
        """
        tasks = (
            Task(
                number=next(self._numbers),
                given=(function, arguments),
                nbytes=size,
                what=f"{what} {number + 1}",
            )
            for number, (size, arguments) in enumerate(calls)
        )
        told = lambda text: self._tell(WorkerNote(what=text))  # noqa: E731  # only told on
        run = run_in_order if in_order else run_tasks
        return (result for _, result in run(self._workers, tasks, told=told))

    def sums(
        self,
        groups: Sequence[Group],
        first: int = 0,
        *,
        output: bool = False,
        embeddings: bool = False,
        only: frozenset[str] | None = None,
    ) -> Generator[GroupSums]:
        """The sums of each group, in their order, from the one with this number on; others as for `Collector`."""
        before = list(accumulate((len(group.chunks) for group in groups), initial=0))
        learned: Learned | None = None

        def calls() -> Iterator[tuple[int, tuple[Any, ...]]]:
            for number, group in enumerate(groups[first:], first):
                yield group.chunks.size, (group, before[number], output, embeddings, only, learned)

        for found in self.each(sums_of, calls(), "group of chunks"):
            learned = learned or found.learned
            yield found


def open_worker(given: Any, threads: int) -> Callable[[Any], Any]:
    """What calls functions with the open model where it is called. Errors as for `open_elsewhere`."""
    require_same(given["files"])
    return _OpenModel(given, threads)


class _OpenModel:
    """The model in a session, which ends when nobody has this any more; and is begun anew where it has died."""

    def __init__(self, given: Any, threads: int) -> None:
        self._given, self._threads = given, threads
        self._session = self._opened()

    def __call__(self, task: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
        function, arguments = task
        if self._session.died:
            self._end()
            self._session = self._opened()
        try:
            return self._session.call(function, *arguments)
        except EvaluationError as error:
            if self._session.died:
                raise LostTaskError(str(error)) from error
            raise

    def _opened(self) -> Session:
        given = self._given
        session = Session(
            given["path"],
            threads=self._threads,
            gpu_layers=given["gpu_layers"],
            engine=given["engine"],
            overrides=given["overrides"],
        )
        session.__enter__()
        self._end = weakref.finalize(self, session.__exit__, None, None, None)
        if session.facts.engine != given["version"]:
            self._end()
            raise EvaluationError(
                f"the worker on {platform.node()} has llama.cpp {session.facts.engine} (expected: {given['version']})",
                "have the same llama.cpp on all machines: others round in other ways",
            )
        return session


def _facts(model: LanguageModel, *, tell: Tell) -> ModelFacts:
    return model.facts
