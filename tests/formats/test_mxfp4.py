"""MXFP4: its byte map, by hand, and the exponents at the ends of float32's range."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

MXFP4 = format_type("MXFP4")


def test_a_block_by_hand() -> None:
    rows = np.zeros((1, 32), np.float32)
    rows[0, :6] = [6, -4, 0.5, 5, -2.5, 0.25]  # the last three are ties, and go to the smaller size
    rows[0, 16:18] = [-6, 1.5]
    data = MXFP4().encode(rows)[0]
    assert data[0] == 127  # 2^-1 times twice the values
    assert data[1:8].tolist() == [0xF7, 0x3E, 0x01, 0x06, 0x0C, 0x00, 0x00]
    back = MXFP4().decode(data[None], 32)[0]
    assert back[:6].tolist() == [6, -4, 0.5, 4, -2, 0]
    assert back[16:18].tolist() == [-6, 1.5]


def test_all_that_it_can_hold_comes_back_as_it_was() -> None:
    values = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = np.tile(np.concatenate([values, -values]), 2)
    rows = np.stack([values * np.float32(2.0**k) for k in range(-120, 120)])
    assert np.array_equal(MXFP4().decode(MXFP4().encode(rows), 32), rows)


def test_tiny_blocks_wrap_their_exponent_and_are_zero() -> None:
    for k in (-126, -140, -149):
        data = MXFP4().encode(np.full((1, 32), 2.0**k, np.float32))
        assert data[0, 0] == k + 125 + 256  # as ggml's conversion to a byte has it
        assert not data[0, 1:].any()
        assert not MXFP4().decode(data, 32).any()


def test_the_largest_float32_counts_as_the_power_of_two_above_it() -> None:
    data = MXFP4().encode(np.full((1, 32), np.finfo(np.float32).max))
    assert data[0, 0] == 253
    assert np.isfinite(MXFP4().decode(data, 32)).all()
