"""Tasks come to their end once each, whatever becomes of workers; a clock and workers that do as they are told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quantrecipe.api import Outcome, Task, Workers
from quantrecipe.errors import OutputError, PluginError
from quantrecipe.executors.run_tasks import run_in_order, run_tasks


class Told(Workers):
    """Workers whose endings a test decides on. `now` goes on by a second with each look for one.

    begun: numbers of tasks, as often as they were begun
    """

    def __init__(self, decide: Callable[[Told], Outcome | None], width: int = 2) -> None:
        self.begun: list[int] = []
        self.running: deque[Task] = deque()
        self.most = 0
        self.now = 0.0
        self.wide = width
        self._decide = decide

    @property
    def width(self) -> int:
        return self.wide

    def begin(self, task: Task) -> None:
        self.begun.append(task.number)
        self.running.append(task)
        self.most = max(self.most, len(self.running))

    def ended(self, seconds: float) -> Outcome | None:
        self.now += 1
        assert self.now < 10_000, "nothing happens any more"
        return self._decide(self)

    def close(self) -> None: ...


def tasks(count: int) -> Iterator[Task]:
    return (Task(number=n, given=n, nbytes=10, what=f"unit {n}") for n in range(count))


def first(workers: Told, **more: Any) -> Outcome:
    task = workers.running.popleft()
    return Outcome(**{"number": task.number, "result": task.given, "seconds": 1.0} | more)


def done(workers: Told, count: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for task, result in run_tasks(workers, tasks(count), clock=lambda: workers.now):
        assert task.number not in found
        found[task.number] = result
    return found


def test_all_are_done_and_not_too_many_are_on_their_way() -> None:
    workers = Told(first, width=3)
    assert done(workers, 20) == {n: n for n in range(20)}
    assert workers.begun == list(range(20))
    assert workers.most == 6


def test_no_tasks_need_nobody() -> None:
    assert done(Told(first), 0) == {}


def test_tasks_aren_t_asked_for_before_their_time() -> None:
    asked = []

    def noted() -> Iterator[Task]:
        for task in tasks(20):
            asked.append(task.number)
            yield task

    results = run_tasks(Told(first, width=1), noted())
    next(results)
    assert len(asked) == 2


def test_more_workers_get_more() -> None:
    def growing(workers: Told) -> Outcome | None:
        if workers.now < 5:
            assert not workers.begun
            return None
        workers.wide = 4
        return first(workers) if workers.running else None

    workers = Told(growing, width=0)
    assert len(done(workers, 20)) == 20
    assert workers.most == 8


def test_what_is_lost_is_begun_again_before_the_others() -> None:
    lost: list[int] = []

    def losing(workers: Told) -> Outcome:
        number = workers.running[0].number
        if number in (1, 3) and number not in lost:
            lost.append(number)
            return first(workers, lost="it died")
        return first(workers)

    workers = Told(losing, width=1)
    assert done(workers, 6) == {n: n for n in range(6)}
    assert workers.begun == [0, 1, 2, 1, 3, 4, 3, 5]


def test_what_is_lost_three_times_is_given_up() -> None:
    def losing(workers: Told) -> Outcome:
        bad = workers.running[0].number == 1
        return first(workers, where="node7", lost="signal 9" if bad else "")

    with pytest.raises(OutputError, match=r"unit 1 was lost 3 times; node7: signal 9; .* more memory"):
        done(Told(losing), 6)


def test_what_is_slow_is_begun_once_more() -> None:
    """Where workers have nothing else to do; the other ending counts for nothing."""

    def stuck(workers: Told) -> Outcome | None:
        while workers.running and workers.running[0].number == 0 and workers.begun.count(0) == 1:
            workers.running.rotate(-1)
            if len(workers.running) == 1:
                return None
        return first(workers) if workers.running else None

    workers = Told(stuck, width=2)
    assert done(workers, 6) == {n: n for n in range(6)}
    assert workers.begun == [0, 1, 2, 3, 4, 5, 0]
    assert workers.now > 3


def test_nothing_is_begun_twice_while_others_wait_or_it_isn_t_slow() -> None:
    workers = Told(lambda it: first(it) if it.now % 2 else None, width=2)
    assert len(done(workers, 9)) == 9
    assert workers.begun == list(range(9))


def test_nothing_is_begun_twice_within_a_moment() -> None:
    """Where tasks take no time, three times as long is none either."""

    def waited(seconds: int) -> list[int]:
        def late(workers: Told) -> Outcome | None:
            if workers.running[0].number == 5 and len(workers.begun) < 7 and workers.now < 6 + seconds:
                return None
            return first(workers, seconds=0.0)

        workers = Told(late, width=2)
        assert done(workers, 6) == {n: n for n in range(6)}
        return workers.begun

    assert waited(1) == list(range(6))
    assert waited(5) == [*range(6), 5]


def test_one_copy_that_is_lost_leaves_the_other() -> None:
    state = {"lost": False}

    def one_lost(workers: Told) -> Outcome | None:
        if workers.running[0].number:
            return first(workers)
        if workers.begun.count(0) == 1 and len(workers.running) == 1:
            return None  # slow, until it is begun once more
        if workers.begun.count(0) == 2:
            if not state["lost"]:
                state["lost"] = True
                return first(workers, lost="it died")
            return first(workers)
        workers.running.rotate(-1)
        return first(workers)

    workers = Told(one_lost, width=2)
    assert done(workers, 4) == {n: n for n in range(4)}
    assert workers.begun[:5] == [0, 1, 2, 3, 0]


def test_a_task_s_error_ends_it() -> None:
    def failing(workers: Told) -> Outcome:
        wrong = OutputError("full") if workers.running[0].number == 2 else None
        return first(workers, error=wrong)

    workers = Told(failing)
    with pytest.raises(OutputError, match=r"^full$"):
        done(workers, 9)
    assert len(workers.begun) < 9


def test_an_error_of_what_was_done_by_another_is_nobody_s() -> None:
    ended = iter(
        [
            Outcome(number=0, result="a", seconds=1),
            Outcome(number=0, error=OutputError("late")),
            Outcome(number=1, result="b", seconds=1),
        ]
    )
    assert done(Told(lambda _: next(ended)), 2) == {0: "a", 1: "b"}


def test_a_worker_that_can_t_be_opened_ends_it() -> None:
    refused = Outcome(number=None, where="node7", error=PluginError("it has no plugin", "install it"))
    with pytest.raises(
        PluginError, match=r"it has no plugin; install it\na worker couldn't be opened on node7"
    ):
        done(Told(lambda _: refused), 3)


def test_what_becomes_of_workers_is_told_and_ends_nothing() -> None:
    endings = deque(
        [
            Outcome(number=None, lost="no cluster runs here"),
            Outcome(number=None, where="node7", lost="spot"),
            Outcome(number=1, where="node8", lost="it died"),
        ]
    )
    workers = Told(lambda it: endings.popleft() if endings else first(it))
    told: list[str] = []
    assert len(list(run_tasks(workers, tasks(5), told=told.append, clock=lambda: workers.now))) == 5
    assert told == ["no cluster runs here", "node7: spot", "node8: it died"]


def test_no_task_is_begun_where_there_is_none_yet() -> None:
    """Whoever gives them decides on the next when another has ended."""
    workers, ended = Told(first, width=2), []

    def asked() -> Iterator[Task | None]:
        yield Task(number=0, given=0)
        while not ended:
            yield None
        yield Task(number=1, given=1)

    for task, _ in run_tasks(workers, asked(), clock=lambda: workers.now):
        ended.append((task.number, list(workers.begun)))
    assert ended == [(0, [0]), (1, [0, 1])]


def test_results_come_in_the_order_of_the_tasks() -> None:
    def backwards(workers: Told) -> Outcome:
        workers.running.rotate(1)  # the one that was begun last ends first
        return first(workers)

    workers = Told(backwards, width=2)
    assert [(task.number, result) for task, result in run_in_order(workers, tasks(20))] == [
        (n, n) for n in range(20)
    ]
    assert sorted({*workers.begun}) == list(range(20))


def test_what_waits_for_its_turn_is_bounded() -> None:
    farthest: list[int] = []

    def stuck(workers: Told) -> Outcome | None:
        """The first task ends when nothing else does any more."""
        others = [it for it in workers.running if it.number]
        if not others:
            farthest.append(max(workers.begun))
            return first(workers)
        workers.running.remove(others[0])
        return Outcome(number=others[0].number, result=others[0].given, seconds=1.0)

    workers = Told(stuck, width=2)
    assert [task.number for task, _ in run_in_order(workers, tasks(100))] == list(range(100))
    assert farthest[0] == 7  # four for each worker
