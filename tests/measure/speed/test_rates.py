"""Rates from times: what was put in comes out, noise stays small, and nothing is below zero."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.measure.speed.rates import Amounts, Timed, rates_of

TRUE = {
    ("Q8_0", "attention"): 4e-11,
    ("Q8_0", "feed-forward"): 3e-11,
    ("Q8_0", "head"): 2e-11,
    ("Q4_K", "attention"): 8e-11,
    ("Q4_K", "feed-forward"): 5e-11,
    ("Q4_K", "head"): 6e-11,
}
SIZES = {"attention": 40_000_000, "feed-forward": 100_000_000, "head": 60_000_000}


def amounts(
    attention: str, feed_forward: str, head: str, *, vocabulary: float = 1, layers: float = 1
) -> Amounts:
    found = {}
    for (role, size), type_ in zip(SIZES.items(), (attention, feed_forward, head), strict=True):
        part = vocabulary if role == "head" else layers
        found[type_, role] = int(size * part * (1 if type_ == "Q8_0" else 0.5))
    return found  # type: ignore[return-value]  # the roles that there are


MIXES = (
    amounts("Q8_0", "Q8_0", "Q8_0"),
    amounts("Q8_0", "Q8_0", "Q8_0", vocabulary=0.25),
    amounts("Q8_0", "Q8_0", "Q8_0", vocabulary=0.25, layers=0.1),
    amounts("Q4_K", "Q4_K", "Q4_K"),
    amounts("Q4_K", "Q8_0", "Q8_0"),
    amounts("Q8_0", "Q8_0", "Q4_K"),
)


def seconds(of: Amounts) -> float:
    return 1e-4 + sum(amount * TRUE[key] for key, amount in of.items())


def test_a_mix_that_was_not_timed_is_foretold() -> None:
    rates, misfit = rates_of([Timed(amounts=it, seconds=seconds(it)) for it in MIXES])
    assert misfit < 0.005
    mix = amounts("Q8_0", "Q4_K", "Q4_K")
    told = rates.constant + sum(amount * rates.by[type_][role] for (type_, role), amount in mix.items())
    assert told == pytest.approx(seconds(mix), rel=0.01)


def test_noise_of_five_per_cent_does_not_grow() -> None:
    random = np.random.default_rng(3)
    noisy = [Timed(amounts=it, seconds=seconds(it) * (1 + 0.05 * random.standard_normal())) for it in MIXES]
    rates, _ = rates_of(noisy)
    assert all(rate >= 0 for by in rates.by.values() for rate in by.values())
    mix = amounts("Q4_K", "Q4_K", "Q8_0")
    told = rates.constant + sum(amount * rates.by[type_][role] for (type_, role), amount in mix.items())
    assert told == pytest.approx(seconds(mix), rel=0.1)


def test_misfit_says_how_far_times_are_from_their_sums() -> None:
    same = MIXES[0]
    _, misfit = rates_of([Timed(amounts=same, seconds=1e-3), Timed(amounts=same, seconds=1.5e-3)])
    assert 0.15 < misfit < 0.25
