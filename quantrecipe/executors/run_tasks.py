"""run_tasks, run_in_order: all tasks of a run, done by an executor's workers, whatever becomes of some of them.

    not too many at once     twice the width are on their way: each worker has one, and one waits for it
    lost                     another worker does the task, before all others; after three times it is the task's fault
    slow                     workers that have nothing to do do once more what takes three times as long as others
    failed                   the run ends with the error

Results come in the order in which they are ready, each task's once, or with `run_in_order` in that of the tasks. They
wait in the executor until somebody asks, so whoever can't keep up with them is waited for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from quantrecipe.api import Outcome, Task, Workers
from quantrecipe.errors import OutputError, Problem, QuantrecipeError

__all__ = ["run_in_order", "run_tasks"]

_AHEAD = 2
_HELD = 4
"""Results for each worker that wait at most for one before them, where the order matters."""
_LOST = 3
"""Workers that may die of a task before it is given up."""
_SLOW = 3.0
"""A task that takes so many times as long as others of its size is begun once more."""
_SLOW_SECONDS = 2.0
"""But not before: any machine may be busy for a moment, and what a second worker reads may be paid for."""
_LOOK_SECONDS = 0.5
_KEPT = 101
"""Of how many tasks that ended last the speed counts: machines come and go."""


@dataclass(slots=True)
class _OnItsWay:
    """started: when a worker was free for it, as far as can be told: tasks are begun in their order"""

    task: Task
    copies: int = 1
    started: float | None = None


@dataclass(slots=True)
class _Run:
    workers: Workers
    waiting: Iterator[Task | None]
    clock: Callable[[], float]
    again: deque[Task] = field(default_factory=deque)
    running: dict[int, _OnItsWay] = field(default_factory=dict)
    lost: dict[int, list[str]] = field(default_factory=dict)
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    exhausted: bool = False


def run_tasks(
    workers: Workers,
    tasks: Iterable[Task | None],
    *,
    told: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[Task, Any]]:
    """Each task with its result, as they end. What a task or a worker's opening raises is raised here.

    tasks: None among them says that no more are to be begun before another one ends
    told:  gets what a user should know and doesn't end the run: of workers that are lost, and tasks with them
    clock: seconds, from anywhere on
    OutputError for a task of which three workers died.
    """
    run = _Run(workers, iter(tasks), clock)
    while True:
        _begin(run)
        if not run.running and run.exhausted and not run.again:
            return
        _overtake(run)
        outcome = workers.ended(_LOOK_SECONDS)
        if outcome is None:
            continue
        if outcome.lost and told is not None:
            told(f"{outcome.where}: {outcome.lost}" if outcome.where else outcome.lost)
        ended = _take(run, outcome)
        if ended is not None:
            yield ended


def run_in_order(
    workers: Workers, tasks: Iterable[Task], *, told: Callable[[str], None] | None = None
) -> Iterator[tuple[Task, Any]]:
    """The same, in the order of the tasks. What is ready before its turn is held, so no task is begun that is far ahead
    of the first that isn't done."""
    waiting: deque[Task] = deque()  # that were begun, in their order
    held: dict[int, Any] = {}

    def begun() -> Iterator[Task | None]:
        for task in tasks:
            while len(waiting) >= _HELD * max(1, workers.width):
                yield None
            waiting.append(task)
            yield task

    for ended, result in run_tasks(workers, begun(), told=told):
        held[ended.number] = result
        while waiting and waiting[0].number in held:
            first = waiting.popleft()
            yield first, held.pop(first.number)


def _begin(run: _Run) -> None:
    """Begin as many tasks as are to be on their way."""
    while sum(it.copies for it in run.running.values()) < _AHEAD * run.workers.width:
        try:
            task = run.again.popleft() if run.again else next(run.waiting)
        except StopIteration:
            run.exhausted = True
            return
        if task is None:
            return
        run.running[task.number] = _OnItsWay(task)
        run.workers.begin(task)


def _overtake(run: _Run) -> None:
    """Begin slow tasks once more, where workers have nothing else to do."""
    now = run.clock()
    for it in islice(run.running.values(), run.workers.width):
        it.started = now if it.started is None else it.started
    idle = run.workers.width - sum(it.copies for it in run.running.values())
    if idle <= 0 or not run.rates:  # as long as tasks wait, nobody is idle
        return
    rate = median(run.rates)
    for it in run.running.values():
        late = max(_SLOW_SECONDS, _SLOW * rate * it.task.nbytes)
        slow = it.started is not None and now - it.started > late
        if slow and it.copies == 1 and idle > 0:
            idle -= 1
            it.copies += 1
            run.workers.begin(it.task)


def _take(run: _Run, outcome: Outcome) -> tuple[Task, Any] | None:
    """A task and its result, if that is what has ended."""
    if outcome.number is None:
        if outcome.error is not None:
            raise _told(outcome.error, f"a worker couldn't be opened on {outcome.where}")
        return None
    found = run.running.get(outcome.number)
    if found is None:  # another worker was quicker
        return None
    if outcome.error is not None:
        raise outcome.error
    if not outcome.lost:
        del run.running[outcome.number]
        run.rates.append(outcome.seconds / max(1, found.task.nbytes))
        return found.task, outcome.result
    found.copies -= 1
    lost = run.lost.setdefault(outcome.number, [])
    lost.append(f"{outcome.where}: {outcome.lost}")
    if len(lost) >= _LOST:
        raise OutputError(
            f"{found.task.what or f'task {found.task.number}'} was lost {len(lost)} times; {'; '.join(lost)}",
            "it may need more memory than the workers have: give them more, or fewer threads",
        )
    if not found.copies:
        del run.running[outcome.number]
        run.again.append(found.task)
    return None


def _told(error: Exception, what: str) -> Exception:
    """The error, which says where it comes from, too."""
    if isinstance(error, QuantrecipeError):
        error.problems = (*error.problems, Problem(what=what))
        error.args = ("\n".join(map(str, error.problems)),)
    return error
