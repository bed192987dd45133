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
    find_peaks,
    first_largest,
    lane_row,
    load_groups,
    load_importance,
    nearest,
    nearest_int,
    sums_of_squares,
    weigh_by_square,
    weigh_in_rows,
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


PEAKS = ([0] * 8, [1, -2, 2, 0, 0, 0, 0, 0], [0, 3, -1, 0, 0, 0, 0, -3], [np.nan, 1, -1, np.nan, 0, 0, 0, 0])


def test_the_first_of_equal_peaks_counts() -> None:
    peak, size = lane_row(3), lane_row(5)
    s = np.full(WORKSPACE, 7, np.float32)
    rows = np.zeros((LANES, 8), np.float32)
    rows[: len(PEAKS)] = PEAKS
    s[X : X + 8 * LANES] = rows.T.reshape(-1)
    find_peaks(8, peak, size)(s)
    expected = [0, -2, 3, 1]
    assert s[peak : peak + 4].tolist() == expected
    assert s[size : size + 4].tolist() == np.abs(expected).tolist()
    assert [first_largest(np.float32([9, *x, 9]), 1, 8) for x in PEAKS] == expected


def test_without_importance_weights_count_their_squares() -> None:
    s = np.zeros(WORKSPACE, np.float32)
    s[X : X + 32 * LANES] = x = np.random.default_rng(1).standard_normal(32 * LANES).astype(np.float32)
    weigh_by_square(16)(s)
    assert np.array_equal(s[WT : WT + 16 * LANES], (x * x)[: 16 * LANES])
    assert not s[WT + 16 * LANES : WT + 32 * LANES].any()


def test_in_rows_weights_count_by_importance_and_size() -> None:
    rng = np.random.default_rng(2)
    x, importance = rng.standard_normal((3, 64)).astype(np.float32), rng.random(64).astype(np.float32)
    s, squares = np.zeros(WORKSPACE, np.float32), np.empty(3, np.float32)
    weigh_in_rows(32)(x.reshape(-1), importance, 0, 6, squares, s)
    lanes, weights = (s[at : at + 32 * LANES].reshape(32, LANES) for at in (X, WT))
    for group in range(6):
        row, first = x[group // 2], group % 2 * 32
        mean = np.cumsum(row * row, dtype=np.float32)[-1] / np.float32(64)
        part = row[first : first + 32]
        assert np.array_equal(lanes[:, group], part)
        assert np.array_equal(weights[:, group], importance[first : first + 32] * np.sqrt(mean + part * part))


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
