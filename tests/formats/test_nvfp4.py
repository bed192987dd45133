"""NVFP4: its byte map, by hand, and rows that are too small or too large for its scale."""

from __future__ import annotations

import numpy as np

from quantrecipe.formats.nvfp4 import NVFP4

TWICE = np.float32([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


def test_bytes_are_where_the_map_says() -> None:
    data = np.random.default_rng(5).integers(0, 256, 36, np.uint8)
    data[:4] = [0x38, 0x40, 0x01, 0x00]  # 1, 2, 2^-9, 0
    weights = NVFP4().decode(data[None], 64)[0]
    for n in range(64):
        g, i = divmod(n, 16)
        q = int(data[4 + 8 * g + i % 8]) >> 4 * (i // 8) & 15
        assert weights[n] == TWICE[q] * np.float32([0.5, 1, 2.0**-10, 0][g])


def test_all_that_it_can_hold_comes_back_as_it_was() -> None:
    rows = np.stack([np.tile(TWICE / 2 * np.float32(2.0**k), 4) for k in range(-9, 8)])
    assert np.array_equal(NVFP4().decode(NVFP4().encode(rows), 64), rows)


def test_groups_too_small_for_their_scale_are_zero() -> None:
    assert not NVFP4().encode(np.full((1, 64), 0.005, np.float32)).any()


def test_of_equal_distances_the_first_value_wins_also_far_beyond_the_largest() -> None:
    rows = np.zeros((1, 64), np.float32)
    rows[0, [0, 16, 17, 32]] = [1e12, 1e9, -1e9, 3000]
    data = NVFP4().encode(rows)[0]
    assert data[:4].tolist() == [0x7E, 0x7E, 0x7E, 0]
    distances = np.abs(TWICE * np.float32(224) - np.float32(1e12))
    assert data[4] & 15 == np.argmin(distances) == 0
    assert [data[12] & 15, data[13] & 15, data[20] & 15] == [7, 15, 7]
