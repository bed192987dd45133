"""Losses that are asked of the estimate: around the target, towards a missing end, and between two ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest

from quantrecipe.fit.asks import AROUND, between, first, inwards, onwards, towards


@dataclass(frozen=True)
class Made:
    asked: float
    value: float


WITHIN, BEYOND = Made(0.008, 0.0075), Made(0.016, 0.0165)
MOST = 0.01


def share(asked: float) -> float:
    """How far it is on the way between the ends."""
    return math.log(asked / WITHIN.asked) / math.log(BEYOND.asked / WITHIN.asked)


RIGHT = math.log(MOST / WITHIN.value) / math.log(BEYOND.value / WITHIN.value)


def test_the_first_ones_are_around_the_target() -> None:
    assert first(MOST, 1) == [MOST]
    assert first(MOST, 3) == pytest.approx([MOST / 1.5, MOST, MOST * 1.5])
    assert math.prod(first(1.0, 4)) == pytest.approx(1.0)
    assert first(1.0, 2) == pytest.approx([1.5**-0.5, 1.5**0.5])


def test_as_far_as_what_was_measured_is_away_but_not_too_far() -> None:
    assert towards(0.005, MOST) == pytest.approx(2)
    assert towards(0.02, MOST) == pytest.approx(0.5)
    assert (towards(0.0, MOST), towards(1.0, MOST)) == (4, 0.25)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_from_one_end_on_past_the_target(count: int) -> None:
    up = onwards(Made(0.008, 0.005), MOST, count)
    assert len(up) == count
    assert all(0.008 < a < b for a, b in pairwise([*up, 1.0]))
    assert up[-1] >= 0.008 * 2 * 1.05 * (1 - 1e-9)
    down = onwards(Made(0.008, 0.02), MOST, count)
    assert all(a > b for a, b in pairwise([0.008, *down]))
    assert down[-1] <= 0.008 / 2 * 0.95 * (1 + 1e-9)
    assert onwards(Made(0.008, 0.005), MOST, 1) == pytest.approx([0.008 * 2 * 1.05])
    exactly = onwards(Made(0.008, MOST), MOST, 1)  # even there something else has to be asked for
    assert exactly == pytest.approx([0.008 * 1.05])


def test_one_between_ends_is_where_the_line_meets_the_target() -> None:
    assert share(between(WITHIN, BEYOND, MOST)) == pytest.approx(RIGHT)
    assert inwards(WITHIN, BEYOND, MOST, 1) == [between(WITHIN, BEYOND, MOST)]
    near = Made(0.016, 0.010001)
    assert math.log(between(WITHIN, near, MOST) / 0.008, 2) == pytest.approx(0.9)
    same = Made(0.016, WITHIN.value)
    assert math.log(between(WITHIN, same, MOST) / 0.008, 2) == pytest.approx(0.5)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 16])
def test_several_between_ends_are_on_both_sides_of_it(count: int) -> None:
    shares = [share(it) for it in inwards(WITHIN, BEYOND, MOST, count)]
    assert shares == sorted(shares)
    assert len(set(shares)) == count or count > 5  # those that would be outside are one
    assert shares[0] > 0
    assert shares[-1] < 1
    assert min(abs(it - RIGHT) for it in shares if it < RIGHT - 1e-9) <= AROUND + 1e-9
    assert min(abs(it - RIGHT) for it in shares if it > RIGHT + 1e-9) <= AROUND + 1e-9
    assert (min(abs(it - RIGHT) for it in shares) < 1e-9) == bool(count % 2)


def test_an_end_isn_t_asked_for_again() -> None:
    near = Made(0.016, 0.010000001)
    for count in (2, 3, 4):
        found = inwards(WITHIN, near, MOST, count)
        assert all(WITHIN.asked < it < near.asked for it in found)


def test_evenly_where_nothing_new_came() -> None:
    found = [share(it) for it in inwards(WITHIN, BEYOND, MOST, 3, even=True)]
    assert found == pytest.approx([0.25, 0.5, 0.75])
