"""What groups lose, beside NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.encoders.thorough.losses import choose_all, differ, lose, moments, weigh

EVEN = np.arange(-4, 4, dtype=np.float32)
UNEVEN = np.array([-6, -3.5, -1, 0, 0.5, 2, 7], np.float32)
K, GROUP, N = 48, 16, 32
RNG = np.random.default_rng(1)
X = RNG.standard_normal((K, N)).astype(np.float32)
IMPORTANCE = RNG.uniform(0.1, 2, K).astype(np.float32)
SCALES = RNG.uniform(-0.5, 0.5, (K // GROUP, N)).astype(np.float32)
OFFSETS = RNG.uniform(-0.2, 0.2, SCALES.shape).astype(np.float32)
SCALES[1, 3] = 0


def wide(of_groups: np.ndarray) -> np.ndarray:
    return np.repeat(of_groups.astype(np.float64), GROUP, axis=0)


def grouped(of_columns: np.ndarray) -> np.ndarray:
    return np.asarray(of_columns.reshape(-1, GROUP, N).sum(axis=1))


def nearest(values: np.ndarray) -> np.ndarray:
    """Numbers of values. With a scale of 0 all are alike, and it is the one nearest to 0."""
    may_be = wide(SCALES)[..., None] * values + wide(OFFSETS)[..., None]
    may_be = np.where(wide(SCALES)[..., None] == 0, values + X[..., None], may_be)
    return np.asarray(np.abs(may_be - X[..., None]).argmin(axis=2))


@pytest.mark.parametrize("values", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_every_weight_is_at_its_nearest_value(values: np.ndarray) -> None:
    halfway, even, room = (
        (values[:-1] + values[1:]) / np.float32(2),
        int(values is EVEN),
        np.empty((4, N), np.float32),
    )
    weights, sizes, lost = np.empty_like(X), np.empty_like(SCALES), np.empty_like(SCALES)
    weigh(X, IMPORTANCE, weights, sizes)
    counts = IMPORTANCE[:, None] * np.sqrt(np.square(X, dtype=np.float64).mean(axis=0) + np.square(X))
    assert np.allclose(weights, counts, rtol=1e-5)
    assert np.allclose(sizes, 1 / grouped(counts * X * X), rtol=1e-5)

    choices = np.empty(X.shape, np.uint8)
    choose_all(X, SCALES, OFFSETS, values, halfway, even, room, choices)
    v = values[choices].astype(np.float64)
    assert np.array_equal(choices, nearest(values))
    away = X - (wide(SCALES) * v + wide(OFFSETS))
    lose(X, weights, SCALES, OFFSETS, values, halfway, even, room, sizes, lost)
    along = grouped(counts * away * X)
    assert np.allclose(lost, grouped(counts * away * away) + along**2 / grouped(counts * X * X), rtol=1e-4)

    sums = np.empty((5, *SCALES.shape), np.float32)
    moments(X, weights, SCALES, OFFSETS, values, halfway, even, room, sums)
    for found, wanted in zip(sums, (1, X, v, v * v, X * v), strict=True):
        assert np.allclose(found, grouped(counts * wanted), rtol=1e-4, atol=1e-4)


def test_what_counts_nothing_loses_nothing() -> None:
    weights, sizes = np.empty_like(X), np.empty_like(SCALES)
    weigh(X, np.zeros(K, np.float32), weights, sizes)
    assert not weights.any()
    assert not sizes.any()


def test_blocks_are_compared_in_double_precision() -> None:
    y, lost = (
        X + RNG.standard_normal(X.shape).astype(np.float32) * np.float32(1e-3),
        np.empty((3, N), np.float64),
    )
    differ(X, y, IMPORTANCE, lost)
    wanted = grouped(IMPORTANCE[:, None].astype(np.float64) * np.square(X.astype(np.float64) - y))
    assert np.allclose(lost, wanted, rtol=1e-12)
