"""Work runs in threads, results come in the order of submission, and no more slots are in use than there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from quantrecipe.output.pipeline import Pipeline

SOON = 20  # seconds: longer than any machine needs, so that a mistake fails instead of waiting for ever


def numbers() -> Iterator[int]:
    return count()


def test_results_come_in_the_order_of_submission() -> None:
    """The first work ends last."""
    second_is_done = threading.Event()
    found: list[str] = []

    def first(slot: int) -> str:
        assert second_is_done.wait(SOON)
        return "first"

    def second(slot: int) -> str:
        second_is_done.set()
        return "second"

    made = numbers()
    with Pipeline(2, lambda: next(made)) as pipeline:
        pipeline.submit(pipeline.slot(), first, found.append)
        pipeline.submit(pipeline.slot(), second, found.append)
        pipeline.drain()
        assert found == ["first", "second"]


@pytest.mark.parametrize("threads", [1, 3])
def test_there_are_two_slots_for_each_thread(threads: int) -> None:
    made = numbers()
    with Pipeline(threads, lambda: next(made)) as pipeline:
        slots = {pipeline.slot() for _ in range(2 * threads)}
        assert slots == set(range(2 * threads))
        for slot in slots:
            pipeline.give_back(slot)
        assert pipeline.slot() in slots


def test_a_slot_is_free_again_when_its_result_was_collected() -> None:
    made, collected = numbers(), []
    with Pipeline(1, lambda: next(made)) as pipeline:
        for number in range(20):
            slot = pipeline.slot()
            assert len(collected) >= number - 1, "at most two are on their way"
            pipeline.submit(slot, lambda it, n=number: (n, it), collected.append)
        pipeline.drain()
    assert [number for number, _ in collected] == list(range(20))
    assert {slot for _, slot in collected} == {0, 1}
    assert next(made) == 2


def test_what_is_done_is_collected_early() -> None:
    """So that its bytes are hashed while others work."""
    made, collected = numbers(), []
    done = threading.Event()
    with Pipeline(2, lambda: next(made)) as pipeline:
        pipeline.submit(pipeline.slot(), lambda slot: done.set(), collected.append)
        assert done.wait(SOON)
        for _ in range(1000):
            pipeline.give_back(pipeline.slot())
            if collected:
                break
            threading.Event().wait(0.01)
        assert collected == [None]


def test_an_error_of_the_work_is_raised_where_it_is_collected() -> None:
    begun: list[int] = []

    def fails(slot: int) -> None:
        raise ValueError("wrong")

    made = numbers()
    with pytest.raises(ValueError, match="wrong"), Pipeline(1, lambda: next(made)) as pipeline:
        pipeline.submit(pipeline.slot(), fails, lambda _: None)
        pipeline.submit(pipeline.slot(), begun.append, lambda _: None)
        pipeline.drain()
    assert begun in ([], [1])


def test_what_has_not_begun_is_dropped_when_it_is_left_early() -> None:
    begun, go_on = threading.Event(), threading.Event()
    ran: list[int] = []

    def waits(slot: int) -> None:
        begun.set()
        assert go_on.wait(SOON)

    made = numbers()
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Pipeline(1, lambda: next(made)) as pipeline:
        pipeline.submit(pipeline.slot(), waits, lambda _: None)
        assert begun.wait(SOON)
        pipeline.submit(pipeline.slot(), ran.append, lambda _: None)
        threading.Timer(0.05, go_on.set).start()
        raise KeyboardInterrupt
    assert ran == []
    assert threading.active_count() <= before + 1  # the timer may still be ending
