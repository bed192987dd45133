"""What a worker does next: units of the flow that has the fewest on their way, what is next in order, another flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quantrecipe.output.schedule import Advance, Collect, Pass, Schedule, Step, Work

CROWD = 8


def nothing(*_: Any) -> None: ...


def flow(*passes: int) -> Iterator[Pass[int]]:
    """Passes of so many units."""
    for count in passes:
        yield Pass(range(count), nothing, nothing)


def done(schedule: Schedule[int], step: Step[int] | None) -> Step[int] | None:
    """Do the step; what is next."""
    if step is not None:
        step.do()
    return schedule.after(step)


def told(step: Step[int] | None) -> str:
    """A step as text: what, flow and unit."""
    if step is None:
        return "wait"
    if isinstance(step, Advance):
        return f"advance {step.flow.number}"
    assert isinstance(step, Work | Collect)
    what = "work" if isinstance(step, Work) else "collect"
    return f"{what} {step.task.flow.number}.{step.task.unit}"


def begun(schedule: Schedule[int]) -> Step[int] | None:
    """The first unit, when the first flow is open."""
    return done(schedule, schedule.after(None))


def test_one_worker_does_one_thing_after_the_other() -> None:
    schedule = Schedule([flow(2, 1), flow(1)], range(2))
    steps, step = [], schedule.after(None)
    while not schedule.ended:
        steps.append(told(step))
        step = done(schedule, step)
    assert steps == [
        "advance 0", "work 0.0", "collect 0.0", "work 0.1", "collect 0.1",
        "advance 0", "work 0.0", "collect 0.0",
        "advance 0", "advance 1", "work 1.0", "collect 1.0",
        "advance 1",
    ]  # fmt: skip
    assert step is None


def test_who_collects_does_so_for_those_who_come_meanwhile() -> None:
    schedule = Schedule([flow(3)], range(6))
    first, second = begun(schedule), schedule.after(None)
    collecting = done(schedule, first)
    assert told(collecting) == "collect 0.0"
    assert told(done(schedule, second)) == "work 0.2", "it doesn't wait until it may collect"
    assert told(done(schedule, collecting)) == "collect 0.1"


def test_a_unit_that_is_done_before_its_turn_waits_for_it() -> None:
    schedule = Schedule([flow(3)], range(6))
    first, second = begun(schedule), schedule.after(None)
    assert told(done(schedule, second)) == "work 0.2"
    assert told(done(schedule, first)) == "collect 0.0"


def test_the_last_unit_is_not_the_end_while_one_before_it_is_on_its_way() -> None:
    schedule = Schedule([flow(2)], range(4))
    first, second = begun(schedule), schedule.after(None)
    assert done(schedule, second) is None
    collecting = done(schedule, first)
    assert told(collecting) == "collect 0.0"
    assert schedule.after(None) is None, "the second is next for whoever collects the first"
    assert told(done(schedule, collecting)) == "collect 0.1"


def test_of_a_crowd_workers_turn_to_another_flow_and_then_to_the_emptiest() -> None:
    schedule = Schedule([flow(100), flow(100)], range(100))
    begun(schedule)
    for _ in range(CROWD - 1):
        assert told(schedule.after(None)).startswith("work 0.")
    second = schedule.after(None)
    assert told(second) == "advance 1"
    assert told(done(schedule, second)) == "work 1.0"
    assert told(schedule.after(None)) == "work 1.1", "the first has more on their way"


def test_where_all_are_crowded_it_goes_on_with_them() -> None:
    schedule = Schedule([flow(100)], range(100))
    begun(schedule)
    steps = [told(schedule.after(None)) for _ in range(2 * CROWD)]
    assert steps[-1] == f"work 0.{2 * CROWD}"


def test_without_a_slot_there_is_nothing_to_do_until_a_unit_was_collected() -> None:
    schedule = Schedule([flow(9)], range(1))
    working = begun(schedule)
    assert not schedule.offers
    assert schedule.after(None) is None
    collecting = done(schedule, working)
    assert not schedule.offers, "the slot is the unit's until it is collected"
    assert told(done(schedule, collecting)) == "work 0.1"


def test_workers_are_called_where_a_flow_is_open_and_a_slot_is_free() -> None:
    schedule = Schedule([flow(2)], range(4))
    assert schedule.offers
    advancing = schedule.after(None)
    assert schedule.after(None) is None, "the only flow is being opened"
    assert not schedule.offers
    working = done(schedule, advancing)
    assert told(working) == "work 0.0"
    assert schedule.offers
    assert told(schedule.after(None)) == "work 0.1"
    assert not schedule.offers


def test_it_has_not_ended_while_a_unit_is_on_its_way() -> None:
    schedule = Schedule([flow(1)], range(2))
    step = begun(schedule)
    assert schedule.after(None) is None
    while step is not None:
        assert not schedule.ended
        step = done(schedule, step)
    assert schedule.ended


def test_places_are_in_the_order_of_flows_and_units() -> None:
    schedule = Schedule([flow(1), flow(1)], range(4))
    advancing = schedule.after(None)
    assert advancing is not None and advancing.place == (0, 0)
    working = done(schedule, advancing)
    assert working is not None and working.place == (0, 0)
    collecting = done(schedule, working)
    assert collecting is not None and collecting.place == (0, 0)
    ending = done(schedule, collecting)
    assert ending is not None and ending.place == (0, 1)
    opening = done(schedule, ending)
    assert opening is not None and opening.place == (1, 0)
