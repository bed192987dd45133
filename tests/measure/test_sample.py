"""Samples: estimates lie where their standard errors say, outliers and experts are in them, and they never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.measure.sample import Moments, Sample, all_rows, draw
from quantrecipe.measure.survey import Survey


def surveyed(energy: np.ndarray, peak: np.ndarray | None = None, digest: str = "5f" * 16) -> Survey:
    peaks = np.sqrt(energy) / 8 if peak is None else peak
    return Survey(digest=digest, energy=energy, peak=peaks.astype(np.float32))


def estimate(sample: Sample, lost: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    moments = Moments(sample.sizes)
    moments.add(sample.stratum, lost[sample.rows], whole[sample.rows])
    return moments.estimate()


def heavy(seed: int, rows: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Rows of very different energy, whose losses follow it only roughly."""
    rng = np.random.default_rng(seed)
    whole = rng.lognormal(0, 1.2, rows)
    return whole * 0.01 * rng.lognormal(0, 0.3, rows), whole


def test_errors_are_as_large_as_they_are_said_to_be() -> None:
    off = []
    for seed in range(150):
        lost, whole = heavy(seed)
        sample = draw(surveyed(whole, digest=f"{seed:032x}"), weights=512 * 64, cols=64, experts=1)
        ratio, error = estimate(sample, lost, whole)
        off.append((ratio - lost.sum() / whole.sum()) / error)
    assert 0.6 < float(np.sqrt(np.mean(np.square(off)))) < 1.2
    assert np.mean(np.abs(off) < 2) > 0.9
    assert abs(np.mean(off)) < 0.25


def test_strata_help() -> None:
    """The same number of rows, drawn from all alike, would be less sure."""
    lost, whole = heavy(1)
    sample = draw(surveyed(whole), weights=512 * 64, cols=64, experts=1)
    ratio, error = estimate(sample, lost, whole)
    plain = np.std(lost - ratio * whole) / np.sqrt(len(sample.rows)) / whole.mean()
    assert error < 0.8 * plain


def test_every_row_is_the_truth() -> None:
    lost, whole = heavy(2)
    ratio, error = estimate(all_rows(len(whole)), lost, whole)
    assert ratio == pytest.approx(lost.sum() / whole.sum(), rel=1e-12)
    assert error == 0


def test_sums_may_come_in_parts() -> None:
    lost, whole = heavy(3)
    sample = draw(surveyed(whole), weights=512 * 64, cols=64, experts=1)
    parts = Moments(sample.sizes)
    for start in range(0, len(sample.rows), 100):
        rows = sample.rows[start : start + 100]
        parts.add(sample.stratum[start : start + 100], lost[rows], whole[rows])
    assert parts.estimate() == pytest.approx(estimate(sample, lost, whole), rel=1e-9)


def test_outliers_are_in_the_sample() -> None:
    energy = np.ones(4096)
    energy[[7, 1999]] = 1e4
    peak = np.full(4096, 0.1, np.float32)
    peak[3001] = 1.0
    sample = draw(surveyed(energy, peak), weights=1024 * 64, cols=64, experts=1)
    assert {7, 1999, 3001} <= set(sample.rows[sample.stratum < 2].tolist())


def test_every_expert_is_in_the_sample() -> None:
    energy = np.random.default_rng(0).random(256 * 64) + 1
    sample = draw(surveyed(energy), weights=1, cols=64, experts=256)
    assert set((sample.rows // 64).tolist()) == set(range(256))


def test_is_decided_by_the_tensor_alone() -> None:
    _, whole = heavy(4)
    one, other = (draw(surveyed(whole), weights=64 * 300, cols=64, experts=1) for _ in range(2))
    assert (one.rows == other.rows).all()
    assert one.rows[:6].tolist() == [2, 18, 50, 90, 96, 120]
    changed = draw(surveyed(whole, digest="00" * 16), weights=64 * 300, cols=64, experts=1)
    assert (changed.rows[: len(one.rows)] != one.rows[: len(changed.rows)]).any()


def test_zeros_have_no_loss() -> None:
    sample = draw(surveyed(np.zeros(1000)), weights=1, cols=64, experts=1)
    assert estimate(sample, np.zeros(1000), np.zeros(1000)) == (0.0, 0.0)


@given(
    rows=st.integers(1, 400),
    weights=st.integers(1, 10**5),
    cols=st.integers(1, 300),
    experts=st.integers(1, 9),
)
def test_is_always_a_sample(rows: int, weights: int, cols: int, experts: int) -> None:
    energy = np.random.default_rng(rows).random(rows * experts)
    sample = draw(surveyed(energy), weights=weights, cols=cols, experts=experts)
    assert sum(sample.sizes) == rows * experts
    assert (np.diff(sample.rows) > 0).all()
    assert sample.rows[0] >= 0
    assert sample.rows[-1] < rows * experts
    counts = np.bincount(sample.stratum, minlength=len(sample.sizes))
    assert all(0 < count <= size for count, size in zip(counts, sample.sizes, strict=True) if size)
    assert len(sample.rows) >= min(rows * experts, weights // cols)
