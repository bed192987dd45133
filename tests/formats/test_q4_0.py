"""Q4_0: its byte map, by hand."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

Q4_0 = format_type("Q4_0")


def test_a_block_by_hand() -> None:
    rows = np.zeros((1, 32), np.float32)
    rows[0, 0], rows[0, 1], rows[0, 16], rows[0, 17] = -8, 7, 3, -1
    data = Q4_0().encode(rows)[0]
    assert data[:2].tolist() == [0x00, 0x3C]  # d = 1
    assert data[2:5].tolist() == [0xB0, 0x7F, 0x88]  # weight 16 + i above weight i, 8 added
    assert np.array_equal(Q4_0().decode(data[None], 32), rows)


def test_of_two_peaks_the_first_decides_the_sign() -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[0, 3], rows[0, 20] = 8, -8
    rows[1, 3], rows[1, 20] = -8, 8
    assert Q4_0().encode(rows).reshape(2, 18)[:, :2].view(np.float16).ravel().tolist() == [-1, 1]
