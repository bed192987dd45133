"""Threads and processes of this machine, beyond what every executor is held to."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quantrecipe.api import Order, Task
from quantrecipe.errors import FormatError, OutputError, PluginError
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.executors.process_workers import ProcessWorkers
from quantrecipe.executors.run_tasks import run_tasks

ORDER = Order(function="quantrecipe.testing.executors:open_job", given=2)


def test_options() -> None:
    assert dict(Threads().options) == {"workers": 2, "threads": 1}
    assert Processes({"workers": 3}).options["workers"] == 3
    with pytest.raises(FormatError, match="processes has no option 'nodes'; its options: threads, workers"):
        Processes({"nodes": 3})


def test_threads_are_as_many_as_were_asked_for() -> None:
    with Threads({"workers": 5}).open(ORDER) as workers:
        assert workers.width == 5


@pytest.mark.parametrize(
    ("memory", "width", "said"),
    [
        (0, 4, ""),
        (1 << 30, 4, ""),
        (3 << 30, 2, "2 of 4 workers: each takes about 3 GiB of memory, and 8 GiB are free"),
        (9 << 30, 1, "1 of 4 workers: each takes about 9 GiB of memory, and 8 GiB are free"),
    ],
)
def test_there_are_no_more_than_memory_has_room_for(
    memory: int, width: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8 << 30))
    told: list[str] = []
    with Threads({"workers": 4}).open(replace(ORDER, memory=memory)) as workers:
        assert workers.width == width
        list(run_tasks(workers, given(("multiply", 1), ("multiply", 2)), told=told.append))
    assert told == ([said] if said else [])


def test_a_function_can_say_that_its_task_is_lost(tmp_path: Path) -> None:
    do, task = ORDER.open(), Task(number=3, given=("lose once", str(tmp_path / "mark")))
    lost = do(task)
    assert (lost.number, lost.error, lost.lost) == (3, None, "what it works with has died")
    assert do(task).result == "found"


def test_a_python_that_isn_t_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.frozen", True, raising=False)
    with pytest.raises(PluginError, match="no Python"):
        Processes().open(ORDER)


def given(*jobs: tuple[str, Any]) -> list[Task]:
    return [Task(number=n, given=it, what=it[0]) for n, it in enumerate(jobs)]


@pytest.mark.slow  # starts processes, which load Python and this package
class TestProcesses:
    def test_one_that_is_killed_is_replaced(self) -> None:
        with Processes({"workers": 1}).open(ORDER) as workers:
            assert isinstance(workers, ProcessWorkers)
            ((_, (_, pid)),) = run_tasks(workers, given(("where", None)))
            assert workers.pids == [pid]
            os.kill(pid, signal.SIGKILL)
            tasks = given(("multiply", 4), ("where", None))
            found = {task.number: result for task, result in run_tasks(workers, tasks)}
            assert found[0] == 8
            assert found[1][1] != pid

    def test_one_that_is_stopped_is_overtaken(self) -> None:
        with Processes({"workers": 2}).open(ORDER) as workers:
            assert isinstance(workers, ProcessWorkers)
            warm = run_tasks(workers, given(*[("sleep", 0.1)] * 6))
            assert len(list(warm)) == 6
            stopped = workers.pids[0]
            os.kill(stopped, signal.SIGSTOP)
            begin = time.monotonic()
            try:
                found = list(run_tasks(workers, given(*[("sleep", 0.1)] * 8)))
            finally:
                os.kill(stopped, signal.SIGCONT)
            assert len(found) == 8
            assert time.monotonic() - begin < 20

    def test_a_task_that_kills_its_workers_is_given_up(self) -> None:
        with (
            Processes({"workers": 2}).open(ORDER) as workers,
            pytest.raises(OutputError, match="was lost 3 times"),
        ):
            list(run_tasks(workers, given(("die", None))))

    def test_a_result_that_can_t_travel_is_an_error(self) -> None:
        with Processes({"workers": 1}).open(ORDER) as workers, pytest.raises(TypeError, match="pickle"):
            list(run_tasks(workers, given(("lock", None))))
