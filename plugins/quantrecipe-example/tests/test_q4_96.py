"""The bytes of Q4_96, against a loop that anyone can follow."""

from __future__ import annotations

import numpy as np
from quantrecipe.testing import nasty_importance, nasty_rows, same_bytes

from quantrecipe_example import Q4_96

FMT = Q4_96()


def codes_of(block: np.ndarray, scale: np.float32) -> np.ndarray:
    """The nearest code of each weight."""
    inverse = np.float32(1) / scale if scale else np.float32(0)
    return np.clip(block * inverse + np.float32(8) + np.float32(0.5), 0, 15).astype(np.int32)


def slowly(row: np.ndarray, importance: np.ndarray) -> bytes:
    """One row, block by block, as the docstring of the format says."""
    data = b""
    for block, weight in zip(row.reshape(-1, 96), importance.reshape(-1, 96), strict=True):
        peak = block[np.argmax(np.abs(block))]
        best, least = np.float32(0), np.float32(np.inf)
        for attempt in range(13):
            scale = np.clip(peak / -np.float32(6.5 + 0.25 * attempt), np.float32(-65504), np.float32(65504))
            off = block - scale * (codes_of(block, scale).astype(np.float32) - np.float32(8))
            loss = np.float32(0)
            for term in weight * off * off:  # in this order: a sum of float32 depends on it
                loss += term
            if loss <= least:
                best, least = scale, loss
        d = np.float16(best)
        codes = codes_of(block, np.float32(d))
        data += d.tobytes() + bytes(int(codes[i] | codes[48 + i] << 4) for i in range(48))
    return data


def test_bytes_are_as_documented() -> None:
    rng = np.random.default_rng(0)
    rows, importance = nasty_rows(rng, 40, 192), nasty_importance(rng, 192)
    with np.errstate(over="ignore"):
        for given, when in ((None, "encode"), (importance, "encode with importance")):
            weight = np.ones(192, np.float32) if given is None else given
            expected = np.array([list(slowly(row, weight)) for row in rows], np.uint8)
            same_bytes(FMT.spec, FMT.encode(rows, given), expected, when)


def test_two_weights_alone_in_their_block_are_met() -> None:
    rows = np.zeros((1, 96), np.float32)
    rows[0, 17], rows[0, 40] = -0.5, 0.25
    back = FMT.decode(FMT.encode(rows), 96)
    assert back[0, 17] == -0.5
    assert back[0, 40] == 0.25
    assert np.count_nonzero(back) == 2


def test_rows_that_256_does_not_divide_are_its_reason_to_be() -> None:
    for k in (384, 1152, 2880):
        assert FMT.spec.row_bytes(k) == k // 96 * 50
