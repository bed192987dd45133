"""What executors promise: every task's result, once, from workers that were opened from the order, whatever becomes of
some of them.

Tasks are calls of `open_job`, which workers import from here.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from quantrecipe import __version__
from quantrecipe.api import Executor, LostTaskError, Order, Task
from quantrecipe.errors import ModelError, PluginError
from quantrecipe.executors.run_tasks import run_tasks
from quantrecipe.testing.failure import require

__all__ = [
    "EXECUTOR_CHECKS",
    "check_closing",
    "check_lost_tasks",
    "check_lost_workers",
    "check_memory",
    "check_opened_once",
    "check_order_refused",
    "check_results",
    "check_task_errors",
    "check_width",
    "open_job",
]

_LARGE = 1 << 22
_CLOSED_SECONDS = 10.0
_ORDER = Order(
    function="quantrecipe.testing.executors:open_job", given=3, packages=(("quantrecipe", __version__),)
)


def open_job(given: Any, threads: int) -> Callable[[Any], Any]:
    """What the tasks of these checks are done by. given: a number that results depend on."""
    opening = secrets.token_hex(8)

    def job(task: tuple[str, Any]) -> Any:
        what, value = task
        match what:
            case "multiply":
                return value * given
            case "bytes":
                return bytes(value)
            case "opening":
                return opening
            case "where" | "sleep":  # value: None, or for how many seconds
                time.sleep(value or 0)
                return platform.node(), os.getpid()
            case "error":
                raise ModelError("is damaged on purpose", "nothing", file="the model")
            case "bug":
                raise _UnusualError(value, "of two")
            case "die":
                os._exit(7)
            case "lock":  # which can't be pickled
                return threading.Lock()
            case "die once":
                try:
                    os.close(os.open(value, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return "alive"
                os._exit(7)
            case "lose once":
                try:
                    os.close(os.open(value, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return "found"
                raise LostTaskError("what it works with has died")
        return None

    return job


class _UnusualError(Exception):
    """Can't be pickled as exceptions are."""

    def __init__(self, value: object, more: str) -> None:
        super().__init__(f"{value} {more}")


def check_width(executor: Executor, seed: int = 0) -> None:
    """It has a name and a summary of one line; every option has a default; its workers say how many they are.

    And how many of them share a machine, which are some of them, or all.
    """
    require("\n" not in executor.summary, "the summary has several lines")
    require(
        set(executor.options) == set(executor.option_schema),
        f"options without a default: {sorted(set(executor.option_schema) - set(executor.options))}",
    )
    with executor.open(_ORDER) as workers:
        _run(workers, [("multiply", 1)])
        require(workers.width >= 1, f"the width is {workers.width} when a worker has done something")
        beside, width = workers.per_machine, workers.width
        require(1 <= beside <= width, f"{beside} of {width} workers are on one machine")


def check_results(executor: Executor, seed: int = 0) -> None:
    """Each task's result comes back once: of many tasks, and of results of megabytes."""
    with executor.open(_ORDER) as workers:
        found = _run(workers, [("multiply", seed + number) for number in range(50)])
        require(
            found == [3 * (seed + number) for number in range(50)],
            "50 tasks don't have the results that they should have",
        )
        sizes = [len(it) for it in _run(workers, [("bytes", _LARGE), ("bytes", 0), ("bytes", _LARGE)])]
        require(sizes == [_LARGE, 0, _LARGE], f"{_LARGE}, 0 and {_LARGE} bytes come back as {sizes}")


def check_opened_once(executor: Executor, seed: int = 0) -> None:
    """A worker is opened from the order once, and not for each task."""
    with executor.open(_ORDER) as workers:
        openings = set(_run(workers, [("opening", None)] * 40))
        require(
            len(openings) <= workers.width,
            f"40 tasks were done by {len(openings)} openings of {workers.width} workers",
        )


def check_task_errors(executor: Executor, seed: int = 0) -> None:
    """What a task raises is raised where the tasks come from: as it was, with the worker's name and traceback."""
    for what, kind in (("error", ModelError), ("bug", Exception)):
        with executor.open(_ORDER) as workers:
            try:
                _run(workers, [("multiply", 1), (what, seed), ("multiply", 2)])
            except kind as error:
                notes = "\n".join(getattr(error, "__notes__", ()))
                require("Traceback" in notes, f"{what}: the error has no note with the worker's traceback")
                require(
                    kind is not ModelError or "on purpose; nothing" in str(error), f"the error says {error}"
                )
                continue
        require(False, f"{what}: a task that raises an error is no error")


def check_order_refused(executor: Executor, seed: int = 0) -> None:
    """Workers that lack a package of the order, or have another version, say so at once, by its name."""
    for package, expected in (
        (("quantrecipe", "0.0.0"), "expected: 0.0.0"),
        (("no-such-package", "1"), "has no"),
    ):
        try:
            with executor.open(replace(_ORDER, packages=(package,))) as workers:
                _run(workers, [("multiply", 1)])
        except PluginError as error:
            require(
                package[0] in str(error) and expected in str(error),
                f"the error doesn't say what is wrong with {package[0]}: {error}",
            )
            continue
        require(False, f"an order that needs {' '.join(package)} is taken")


def check_lost_workers(executor: Executor, seed: int = 0) -> None:
    """A worker that dies loses nothing: others do its task. (Workers that are this process can't die.)"""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, executor.open(_ORDER) as workers:
        if (platform.node(), os.getpid()) in _run(workers, [("where", None)]):
            return
        mark = str(Path(folder) / "mark")
        tasks: list[tuple[str, Any]] = [("multiply", number) for number in range(9)]
        found = _run(workers, [*tasks, ("die once", mark), *tasks])
        expected = [3 * number for number in range(9)]
        require(found == [*expected, "alive", *expected], f"after a worker's death the results are {found}")


def check_lost_tasks(executor: Executor, seed: int = 0) -> None:
    """A task whose function says that it was lost is done again, and the worker goes on."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, executor.open(_ORDER) as workers:
        mark = str(Path(folder) / "mark")
        found = _run(workers, [("multiply", 1), ("lose once", mark), ("multiply", 2)])
        require(found == [3, "found", 6], f"after a task was lost the results are {found}")


def check_memory(executor: Executor, seed: int = 0) -> None:
    """Workers that take more memory than there is are fewer than others, but there is one."""
    with executor.open(_ORDER) as workers:
        _run(workers, [("multiply", 1)])
        usual = workers.width
    with executor.open(replace(_ORDER, memory=1 << 60)) as workers:
        require(
            _run(workers, [("multiply", 2)]) == [6], "with an order that takes much memory nothing is done"
        )
        require(
            1 <= workers.width <= usual,
            f"{workers.width} workers take more memory than there is, and {usual} take little",
        )


def check_closing(executor: Executor, seed: int = 0) -> None:
    """Closing doesn't wait for what workers are at. (Those that are this process have to be waited for.)"""
    workers = executor.open(_ORDER)
    try:
        if (platform.node(), os.getpid()) in _run(workers, [("where", None)]):
            return
        workers.begin(Task(number=1, given=("sleep", 3 * _CLOSED_SECONDS)))
        workers.ended(0.2)
    finally:
        begin = time.monotonic()
        workers.close()
    seconds = time.monotonic() - begin
    require(seconds < _CLOSED_SECONDS, f"closing takes {seconds:.0f} s while a worker sleeps")


EXECUTOR_CHECKS: tuple[Callable[[Executor, int], None], ...] = (
    check_width,
    check_results,
    check_opened_once,
    check_task_errors,
    check_order_refused,
    check_lost_workers,
    check_lost_tasks,
    check_memory,
    check_closing,
)
"""What every executor is held to."""


def _run(workers: Any, given: Sequence[tuple[str, Any]]) -> list[Any]:
    """The results of tasks, in their order."""
    tasks = [Task(number=number, given=it, what=it[0]) for number, it in enumerate(given)]
    found: dict[int, Any] = {}
    for task, result in run_tasks(workers, tasks):
        require(task.number not in found, f"task {task.number} comes back twice")
        found[task.number] = result
    require(len(found) == len(tasks), f"{len(found)} of {len(tasks)} tasks come back")
    return [found[number] for number in sorted(found)]
