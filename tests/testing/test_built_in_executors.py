"""Every built-in executor keeps every promise that third parties' executors are held to."""

from __future__ import annotations

from typing import Any

import pytest

from quantrecipe.api import Executor, Order, Outcome, Task, Workers
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.testing import CheckFailure, checks_of, parametrize_with_checks
from quantrecipe.testing import executors as kit


@parametrize_with_checks([Threads()])
def test_threads(check: Any) -> None:
    check()


@pytest.mark.slow  # each starts processes, which load Python and this package
@parametrize_with_checks([Processes()])
def test_processes(check: Any) -> None:
    check()


class _Wrong(Workers):
    """Wraps threads, and changes what comes back."""

    def __init__(self, inner: Workers, kind: str) -> None:
        self._inner, self._kind, self._last = inner, kind, None

    @property
    def width(self) -> int:
        return 0 if self._kind == "no width" and self._last is not None else self._inner.width

    @property
    def per_machine(self) -> int:
        return self.width + (self._kind == "crowded")

    def begin(self, task: Task) -> None:
        self._inner.begin(task)

    def ended(self, seconds: float) -> Outcome | None:
        found = self._inner.ended(seconds)
        self._last = found or self._last
        if found is not None and self._kind == "wrong result":
            return Outcome(number=found.number, result=0)
        if found is not None and self._kind == "silent" and found.error is not None:
            return Outcome(number=found.number or 0, result=0)
        if found is not None and self._kind == "bare error" and found.error is not None:
            return Outcome(number=found.number, error=type(found.error)("failed"))
        return found

    def close(self) -> None:
        self._inner.close()


class _WrongExecutor(Threads):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def open(self, order: Order) -> Workers:
        return _Wrong(super().open(order), self._kind)


class _OpensForEach(Executor):
    name, summary = "opens", "opens a worker for each task"

    def open(self, order: Order) -> Workers:
        return _OpeningWorkers(order)


class _OpeningWorkers(Workers):
    width = 2

    def __init__(self, order: Order) -> None:
        self._order, self._tasks = order, []

    def begin(self, task: Task) -> None:
        self._tasks.append(task)

    def ended(self, seconds: float) -> Outcome | None:
        return self._order.open()(self._tasks.pop()) if self._tasks else None

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("executor", "check", "said"),
    [
        (_WrongExecutor("wrong result"), kit.check_results, "don't have the results"),
        (_WrongExecutor("silent"), kit.check_task_errors, "is no error"),
        (_WrongExecutor("bare error"), kit.check_task_errors, "no note"),
        (_WrongExecutor("bare error"), kit.check_order_refused, "doesn't say what is wrong"),
        (_WrongExecutor("silent"), kit.check_order_refused, "is taken"),
        (_WrongExecutor("crowded"), kit.check_width, "3 of 2 workers are on one machine"),
        (_WrongExecutor("no width"), kit.check_width, "the width is 0"),
        (_OpensForEach(), kit.check_opened_once, "40 openings"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_what_breaks_a_promise_is_found(executor: Executor, check: Any, said: str) -> None:
    with pytest.raises(CheckFailure, match=said):
        check(executor)


def test_all_checks_are_those_of_the_kit() -> None:
    assert [it.name for it in checks_of(Threads())] == [
        it.__name__.removeprefix("check_") for it in kit.EXECUTOR_CHECKS
    ]
