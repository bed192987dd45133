"""The figures against formulas written out position by position."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from quantrecipe.evaluate import Positions, difference, summarise

RNG = np.random.default_rng(1)


def positions(n: int = 500, *, seed: int = 0) -> Positions:
    rng = np.random.default_rng(seed)
    reference = rng.exponential(2.0, n)
    return Positions(
        cost=np.abs(reference + rng.normal(0.02, 0.05, n)),
        reference_cost=reference,
        divergence=rng.exponential(0.01, n),
        agrees=(rng.random(n) < 0.9).astype(float),
    )


def error_of_mean(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


def test_perplexity_and_its_error() -> None:
    p = positions()
    e = summarise(p)
    assert e.positions == 500
    assert e.perplexity == pytest.approx(math.exp(statistics.fmean(p.cost)))
    assert e.perplexity_error == pytest.approx(e.perplexity * error_of_mean(p.cost.tolist()))
    assert e.reference_perplexity == pytest.approx(math.exp(statistics.fmean(p.reference_cost)))


def test_the_ratio_s_error_knows_that_both_saw_the_same_text() -> None:
    """As llama-perplexity has it: var(a) + var(b) - 2 cov(a, b)."""
    p = positions()
    e = summarise(p)
    n = len(p)
    covariance = float(np.cov(p.cost, p.reference_cost, ddof=1)[0, 1]) / n
    variance = error_of_mean(p.cost.tolist()) ** 2 + error_of_mean(p.reference_cost.tolist()) ** 2
    assert e.log_ratio == pytest.approx(math.log(e.perplexity / e.reference_perplexity))
    assert e.log_ratio_error == pytest.approx(math.sqrt(variance - 2 * covariance))
    assert e.correlation == pytest.approx(float(np.corrcoef(p.cost, p.reference_cost)[0, 1]))


def test_divergence() -> None:
    p = positions()
    e = summarise(p)
    ordered = sorted(p.divergence.tolist())

    def percentile(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] * (1 - (place - low)) + ordered[high] * (place - low)

    assert e.kld_mean == pytest.approx(statistics.fmean(ordered))
    assert e.kld_mean_error == pytest.approx(error_of_mean(ordered))
    assert e.kld_median == pytest.approx(statistics.median(ordered))
    assert (e.kld_90, e.kld_95) == pytest.approx((percentile(0.9), percentile(0.95)))
    assert (e.kld_99, e.kld_999) == pytest.approx((percentile(0.99), percentile(0.999)))
    assert e.kld_max == ordered[-1]


def test_agreement_and_change_of_probability() -> None:
    p = positions()
    e = summarise(p)
    share = statistics.fmean(p.agrees)
    changes = [math.exp(-a) - math.exp(-b) for a, b in zip(p.cost, p.reference_cost, strict=True)]
    assert e.top1 == pytest.approx(share)
    assert e.top1_error == pytest.approx(math.sqrt(share * (1 - share) / (len(p) - 1)))
    assert e.dp_mean == pytest.approx(statistics.fmean(changes))
    assert e.dp_rms == pytest.approx(math.sqrt(statistics.fmean(c * c for c in changes)))
    # The error of a square root is that of the square over twice the root.
    assert e.dp_rms_error == pytest.approx(error_of_mean([c * c for c in changes]) / (2 * e.dp_rms))


def test_the_same_model_diverges_nowhere() -> None:
    p = positions()
    same = Positions(
        cost=p.reference_cost,
        reference_cost=p.reference_cost,
        divergence=np.zeros(len(p)),
        agrees=np.ones(len(p)),
    )
    e = summarise(same)
    assert (e.log_ratio, e.log_ratio_error, e.kld_mean, e.kld_mean_error, e.kld_max) == (0, 0, 0, 0, 0)
    assert (e.top1, e.top1_error, e.dp_rms, e.dp_rms_error, e.correlation) == pytest.approx((1, 0, 0, 0, 1))


def test_a_difference_is_surer_than_its_sides() -> None:
    """Two files that err at the same positions."""
    hard = RNG.exponential(0.02, 1000)
    one, other = positions(1000, seed=1), positions(1000, seed=2)
    one = Positions(**_with(one, divergence=hard))
    other = Positions(**_with(other, divergence=hard * 0.9))
    value, error = difference(other, one)
    assert value == pytest.approx(-0.1 * hard.mean())
    assert error < 0.2 * summarise(one).kld_mean_error


def test_parts_and_joins() -> None:
    p = positions(100)
    joined = Positions.join([p[:30], p[30:]])
    assert np.array_equal(joined.stacked(), p.stacked())
    assert np.array_equal(Positions.from_stacked(p.stacked()).cost, p.cost)


def _with(p: Positions, **changes: object) -> dict[str, object]:
    names = ("cost", "reference_cost", "divergence", "agrees")
    return {name: getattr(p, name) for name in names} | changes
