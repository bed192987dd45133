"""Rounding as ggml rounds, peaks, sums in order, and groups side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    WT,
    X,
    away_from_zero,
    first_peak,
    load_groups,
    load_importance,
    nearest,
    nearest_int,
    sums_of_squares,
)


@kernel
def _round(values: Any, floats: Any, integers: Any, away: Any) -> None:
    for i in range(values.size):
        floats[i] = nearest(values[i])
        integers[i] = nearest_int(values[i])
        away[i] = away_from_zero(values[i])


def rounded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    floats, integers = np.empty(values.size, np.float32), np.empty(values.size, np.int32)
    away = np.empty(values.size, np.float32)
    _round(values, floats, integers, away)
    return floats, integers, away


def test_rounds_to_the_nearest_even_and_away_from_zero() -> None:
    values = np.arange(-4096, 4096, dtype=np.float32) / np.float32(8)
    floats, integers, away = rounded(values)
    assert np.array_equal(floats, np.rint(values))
    assert np.array_equal(integers, np.rint(values))
    assert np.array_equal(away, np.trunc(values + np.copysign(np.float32(0.5), values)))
    assert rounded(np.float32([0.49999997, -0.49999997]))[2].tolist() == [0, 0]


def test_what_is_beyond_rounding_becomes_ggml_s_bits() -> None:
    _, integers, _ = rounded(np.float32([np.inf, -np.inf, np.nan]))
    assert integers.tolist() == [-(1 << 22), -(1 << 22), 0]


def test_the_first_of_equal_peaks_counts() -> None:
    @kernel
    def peak_of(x: Any, bits: Any) -> Any:
        return peak(x, bits, 0)

    peak = first_peak(8)
    for x in ([0, 0, 0, 0, 0, 0, 0, 0], [1, -2, 2, 0, 0, 0, 0, 0], [0, 3, -1, 0, 0, 0, 0, -3]):
        row = np.float32(x)
        expected = row[np.abs(row).argmax()]
        assert peak_of(row, row.view(np.uint32)) == expected


def test_sums_of_squares_add_in_order() -> None:
    x = np.random.default_rng(0).standard_normal(13 * 96).astype(np.float32)
    sums = np.zeros(11, np.float32)
    sums_of_squares(x, 2, 11, 96, sums)
    for j in range(11):
        total = np.float32(0)
        for value in x[(2 + j) * 96 : (3 + j) * 96]:
            total += value * value
        assert sums[j] == total


def test_groups_stand_in_lanes_and_the_last_fills_the_rest() -> None:
    x = np.arange(8 * 64, dtype=np.float32)
    importance = np.arange(64, dtype=np.float32)
    s = np.zeros(WORKSPACE, np.float32)
    load_groups(16)(x, 3, 7, s)
    load_importance(16)(importance, 3, 7, s)
    lanes, weights = (s[at : at + 16 * LANES].reshape(16, LANES) for at in (X, WT))
    for j in range(LANES):
        group = 3 + min(j, 6)
        assert np.array_equal(lanes[:, j], x[group * 16 : group * 16 + 16])
        assert np.array_equal(weights[:, j], importance[group % 4 * 16 : group % 4 * 16 + 16])
