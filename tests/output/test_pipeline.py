"""Units are done in any order and collected in theirs; a pass ends before the next of its flow begins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from quantrecipe.output.pipeline import Pass, Pipeline

SOON = 20  # seconds: longer than any machine needs, so that a mistake fails instead of waiting for ever


def pipeline(threads: int) -> Pipeline[int]:
    """One whose slots are numbers."""
    made = count()
    return Pipeline(threads, lambda: next(made))


def nothing(*_: Any) -> None: ...


def flow_of(*passes: Pass[int]) -> Iterator[Pass[int]]:
    yield from passes


def test_results_are_collected_in_the_order_of_units() -> None:
    """The first unit ends last."""
    others = threading.Barrier(2, timeout=SOON)
    found: list[tuple[int, int]] = []

    def work(unit: int, slot: int) -> int:
        if unit in (0, 1):
            others.wait()  # both threads are at work; unit 1 goes on to 2
        if unit == 0:
            assert second_is_done.wait(SOON)
        if unit == 2:
            second_is_done.set()
        return 10 * unit

    second_is_done = threading.Event()
    pipeline(2).run([flow_of(Pass(range(3), work, lambda unit, result: found.append((unit, result))))])
    assert found == [(0, 0), (1, 10), (2, 20)]


def test_collecting_never_happens_twice_at_once() -> None:
    at_it: list[int] = []
    most: list[int] = []

    def collect(unit: int, result: None) -> None:
        at_it.append(unit)
        most.append(len(at_it))
        threading.Event().wait(0.001)
        at_it.remove(unit)

    pipeline(4).run([flow_of(Pass(range(40), nothing, collect))])
    assert most == [1] * 40


@pytest.mark.parametrize("threads", [1, 3])
def test_there_are_two_slots_for_each_thread_and_they_come_back(threads: int) -> None:
    lock, used, most = threading.Lock(), set[int](), [0]
    seen: set[int] = set()

    def work(unit: int, slot: int) -> int:
        with lock:
            assert slot not in used, "two units in one slot"
            used.add(slot)
            seen.add(slot)
            most[0] = max(most[0], len(used))
        return slot

    def collect(unit: int, slot: int) -> None:
        with lock:
            used.remove(slot)

    pipeline(threads).run(flow_of(Pass(range(5), work, collect)) for _ in range(20))
    assert most[0] <= 2 * threads
    assert seen <= set(range(2 * threads))


def test_a_pass_begins_when_the_one_before_has_been_collected() -> None:
    log: list[str] = []

    def flow() -> Iterator[Pass[int]]:
        total: list[int] = []
        yield Pass(range(5), lambda unit, slot: unit, lambda unit, result: total.append(result))
        log.append(f"first: {sum(total)}")
        yield Pass([7], lambda unit, slot: unit, lambda unit, result: log.append(f"second: {result}"))
        log.append("end")

    pipeline(3).run([flow()])
    assert log == ["first: 10", "second: 7", "end"]


def test_flows_follow_each_other_without_waiting() -> None:
    """While the last unit of a flow is at work, another thread begins with the next flow."""
    next_has_begun = threading.Event()

    def slow(unit: int, slot: int) -> None:
        assert next_has_begun.wait(SOON)

    def quick(unit: int, slot: int) -> None:
        next_has_begun.set()

    pipeline(2).run([flow_of(Pass([0], slow, nothing)), flow_of(Pass([0], quick, nothing))])


def test_of_a_crowd_some_turn_to_another_flow() -> None:
    """What waits to be collected behind a slow unit doesn't keep all slots."""
    other_has_begun = threading.Event()

    def work(unit: int, slot: int) -> None:
        if unit == 0:
            assert other_has_begun.wait(SOON)

    def other(unit: int, slot: int) -> None:
        other_has_begun.set()

    pipeline(8).run([flow_of(Pass(range(1000), work, nothing)), flow_of(Pass([0], other, nothing))])


def test_flows_without_units_and_no_flows_at_all() -> None:
    found: list[int] = []
    pipeline(2).run([])
    passes = (Pass([], nothing, nothing), Pass([3], nothing, lambda unit, _: found.append(unit)))
    pipeline(2).run([flow_of(), flow_of(*passes), flow_of()])
    assert found == [3]


def test_calls_are_made_in_the_thread_that_runs_it() -> None:
    threads: list[int] = []
    line = pipeline(2)

    def work(unit: int, slot: int) -> None:
        assert threading.get_ident() != own
        line.tell(lambda: threads.append(threading.get_ident()))

    own = threading.get_ident()
    line.run([flow_of(Pass(range(9), work, nothing))])
    assert threads == [own] * 9


def fails_in(place: str, number: int) -> Callable[..., Any]:
    def call(unit: int, *_: Any) -> None:
        if unit == number:
            raise ValueError(f"{place} {unit}")

    return call


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("place", ["work", "collect", "flow"])
def test_an_error_is_raised_and_no_thread_stays(place: str, threads: int) -> None:
    def flow() -> Iterator[Pass[int]]:
        at = {"work": nothing, "collect": nothing, place: fails_in(place, 5)}
        yield Pass(range(100), at["work"], at["collect"])
        raise ValueError("flow 5")

    before = threading.active_count()
    with pytest.raises(ValueError, match=f"{place} 5"):
        pipeline(threads).run([flow(), flow()])
    assert threading.active_count() == before


def test_of_two_errors_the_first_in_order_is_raised() -> None:
    both = threading.Barrier(2, timeout=SOON)

    def work(unit: int, slot: int) -> None:
        both.wait()
        if unit == 0:
            threading.Event().wait(0.05)
        raise ValueError(f"unit {unit}")

    with pytest.raises(ValueError, match="unit 0"):
        pipeline(2).run([flow_of(Pass(range(2), work, nothing))])


def test_what_interrupts_the_caller_stops_all_threads() -> None:
    done: list[int] = []
    line = pipeline(1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    def work(unit: int, slot: int) -> None:
        done.append(unit)
        if unit == 2:
            line.tell(interrupt)
        threading.Event().wait(0.01)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        line.run([flow_of(Pass(range(10_000), work, nothing))])
    assert len(done) < 10_000
    assert threading.active_count() == before


def test_ten_thousand_small_flows() -> None:
    lock, total = threading.Lock(), [0]

    def collect(unit: int, result: int) -> None:
        with lock:
            total[0] += result

    pipeline(4).run(flow_of(Pass([n], lambda unit, slot: unit, collect)) for n in range(10_000))
    assert total[0] == sum(range(10_000))


def test_where_the_system_allows_no_more_threads_those_that_run_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    long = Pass(range(2000), lambda *_: time.sleep(0.001), nothing)
    with pytest.raises(RuntimeError, match="can't start"):
        pipeline(2).run([flow_of(long)])
    assert not started[0].is_alive()
