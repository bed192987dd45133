"""The bytes of Q4_96, against a loop that anyone can follow."""

from __future__ import annotations

import numpy as np
from quantrecipe.testing import nasty_rows, same_bytes

from quantrecipe_example import Q4_96

FMT = Q4_96()


def slowly(row: np.ndarray) -> bytes:
    """One row, weight by weight, as the docstring of the format says."""
    data = b""
    for block in row.reshape(-1, 96):
        peak = block[np.argmax(np.abs(block))]
        d = np.float16(np.clip(peak / np.float32(-8), -65504, 65504))
        inverse = np.float32(1) / np.float32(d) if d else np.float32(0)
        with np.errstate(over="ignore"):
            codes = [int(np.clip(x * inverse + np.float32(8) + np.float32(0.5), 0, 15)) for x in block]
        data += d.tobytes() + bytes(codes[i] | codes[48 + i] << 4 for i in range(48))
    return data


def test_bytes_are_as_documented() -> None:
    rows = nasty_rows(np.random.default_rng(0), 40, 192)
    expected = np.array([list(slowly(row)) for row in rows], np.uint8)
    same_bytes(FMT.spec, FMT.encode(rows), expected, "encode")


def test_the_largest_weight_of_a_block_is_met() -> None:
    rows = np.zeros((1, 96), np.float32)
    rows[0, 17], rows[0, 40] = -0.5, 0.25
    back = FMT.decode(FMT.encode(rows), 96)
    assert back[0, 17] == -0.5
    assert back[0, 40] == 0.25
    assert np.count_nonzero(back) == 2


def test_rows_that_256_does_not_divide_are_its_reason_to_be() -> None:
    for k in (384, 1152, 2880):
        assert FMT.spec.row_bytes(k) == k // 96 * 50
