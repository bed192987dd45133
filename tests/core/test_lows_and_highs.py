"""The lowest and the highest of each block, and the first of largest size, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.lows_and_highs import BLOCKS, first_peaks, lows_and_highs

N = 32


def same(one: np.float32, other: np.float32) -> bool:
    return bool(np.float32(one).view(np.uint32) == np.float32(other).view(np.uint32))


@pytest.mark.parametrize("blocks", [1, 3, 11, BLOCKS, 2 * BLOCKS + 5])
def test_of_each_block(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    rows = rng.standard_normal((6, blocks, N), np.float32)
    rows[1] = abs(rows[1]) * (rng.random((blocks, N)) < 0.5)
    rows[2] = -rows[1]  # zeros of both signs
    rows[3] = np.where(rng.random((blocks, N)) < 0.5, np.float32(0.0), np.float32(-0.0))
    rows[4] = rng.integers(-2, 3, (blocks, N))
    rows[5] *= np.float32(6e37)
    for x in rows:
        low, high = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
        lows_and_highs(N)(x.reshape(x.size), low, high)
        peaks = np.empty(blocks, np.float32)
        first_peaks(N)(x.reshape(x.size), peaks)
        for b, block in enumerate(x):
            least = most = block[0]
            peak = np.float32(0)
            for value in block:
                least = value if value < least else least
                most = value if value > most else most
                peak = value if abs(value) > abs(peak) else peak
            assert same(low[b], least)
            assert same(high[b], most)
            assert same(peaks[b], peak)
