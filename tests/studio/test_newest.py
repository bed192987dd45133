"""Newest: the newest request comes first, and older ones of its kind don't get their turn."""

from __future__ import annotations

from threading import Event

import pytest

from quantrecipe.studio.newest import Newest, SupersededError

PATIENCE = 30


def busy(newest: Newest) -> Event:
    """Keep the thread at work until the event is set."""
    begun, end = Event(), Event()

    def work() -> None:
        begun.set()
        end.wait(PATIENCE)

    newest.ask("other", work)
    assert begun.wait(PATIENCE)
    return end


def test_an_answer_and_an_error() -> None:
    newest = Newest()
    assert newest.ask("a", lambda: 3).result(PATIENCE) == 3

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        newest.ask("a", fail).result(PATIENCE)
    assert newest.ask("a", lambda: 4).result(PATIENCE) == 4


def test_only_the_last_one_of_a_kind_is_worked_on() -> None:
    newest = Newest()
    end = busy(newest)
    done: list[int] = []
    answers = [newest.ask("mix", lambda number=number: done.append(number)) for number in range(5)]
    for older in answers[:-1]:
        with pytest.raises(SupersededError):
            older.result(PATIENCE)
    end.set()
    answers[-1].result(PATIENCE)
    assert done == [4]


def test_the_newest_kind_comes_first_and_others_get_their_turn() -> None:
    newest = Newest()
    end = busy(newest)
    done: list[str] = []
    answers = [newest.ask(kind, lambda kind=kind: done.append(kind)) for kind in ("text", "mix", "lock")]
    end.set()
    for answer in answers:
        answer.result(PATIENCE)
    assert done == ["lock", "mix", "text"]


def test_an_answer_that_nobody_waits_for_is_not_worked_on() -> None:
    newest = Newest()
    end = busy(newest)
    answer = newest.ask("mix", lambda: pytest.fail("worked on"))
    assert answer.cancel()
    newest.ask("mix", lambda: None)  # takes the place of one that is gone
    end.set()
    assert newest.ask("last", lambda: 1).result(PATIENCE) == 1


def test_the_thread_ends_behind_what_is_waiting() -> None:
    newest = Newest()
    end = busy(newest)
    answer = newest.ask("mix", lambda: 5)
    newest.end()
    end.set()
    assert answer.result(PATIENCE) == 5
