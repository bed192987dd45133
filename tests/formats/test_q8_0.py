"""Q8_0: its byte map, by hand."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

Q8_0 = format_type("Q8_0")


def test_a_block_by_hand() -> None:
    rows = np.zeros((1, 32), np.float32)
    rows[0, :5] = [127, -64, 0.5, -1.5, 2.4]
    data = Q8_0().encode(rows)[0]
    assert data[:2].tolist() == [0x00, 0x3C]  # d = 1
    assert data[2:7].view(np.int8).tolist() == [127, -64, 1, -2, 2]  # halves go away from zero
    assert np.array_equal(Q8_0().decode(data[None], 32)[0, :5], np.float32([127, -64, 1, -2, 2]))


def test_a_block_too_small_for_its_scale_is_zero() -> None:
    rows = np.full((1, 32), 1e-44, np.float32)
    assert not Q8_0().encode(rows).any()
