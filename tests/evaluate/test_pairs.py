"""Paired shares and means: the textbook's numbers, and nothing certain where little is known."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.evaluate.pairs import mean_interval, paired_mean, paired_share


def cases(both: int, ours: int, theirs: int, neither: int) -> tuple[list[bool], list[bool]]:
    kinds = (
        [(True, True)] * both + [(True, False)] * ours + [(False, True)] * theirs + [(False, False)] * neither
    )
    return [a for a, _ in kinds], [b for _, b in kinds]


def test_what_only_one_has_right_is_counted() -> None:
    pair = paired_share(*cases(50, 5, 15, 30))
    assert (pair.gained, pair.lost) == (5, 15)
    assert pair.change.value == pytest.approx(-0.1)
    # The binomial test of 5 in 20: 2 Σ C(20, k) for k = 0 … 5, of 2^20.
    assert pair.p == pytest.approx(0.04138947)
    # Bonett and Price: (16 - 6) / 102, and the root of (0.2157 - 0.0096) / 102, by hand.
    assert pair.change.low == pytest.approx(-0.09804 - 1.95996 * 0.04495, abs=1e-4)
    assert pair.change.high == pytest.approx(-0.09804 + 1.95996 * 0.04495, abs=1e-4)


@pytest.mark.parametrize(
    ("counts", "p"), [((0, 0, 0, 10), 1.0), ((3, 1, 1, 3), 1.0), ((0, 10, 0, 0), 2 / 1024)]
)
def test_mcnemar(counts: tuple[int, int, int, int], p: float) -> None:
    assert paired_share(*cases(*counts)).p == pytest.approx(p)


def test_many_cases_don_t_overflow() -> None:
    """As floats end at 2^1024."""
    assert paired_share(*cases(0, 900, 500, 0)).p == pytest.approx(6.78945e-27, rel=1e-5)


def test_as_many_are_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_share([True], [True, False])


def test_a_mean_has_student_s_interval() -> None:
    values = np.random.default_rng(0).normal(5, 2, 40).tolist()
    found = mean_interval(values)
    half = 2.0227 * np.std(values, ddof=1) / 40**0.5  # t of 39 degrees
    assert found.low == pytest.approx(found.value - half, rel=1e-4)
    assert found.high == pytest.approx(found.value + half, rel=1e-4)


def test_of_few_values_nothing_is_sure() -> None:
    assert mean_interval([1.0] * 9).known is None
    assert mean_interval([]).value == 0


def test_differences_are_narrower_than_what_they_are_of() -> None:
    hard = np.random.default_rng(1).normal(0, 10, 50)
    ours, theirs = (hard + 1).tolist(), hard.tolist()
    low, high = paired_mean(ours, theirs).known or (0.0, 0.0)
    assert low == pytest.approx(1) and high == pytest.approx(1)
