"""The largest size and the sum of sizes of each block, for numbers of blocks that eight divides and that it doesn't."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.largest_sizes import largest_sizes, sums_of_sizes


@pytest.mark.parametrize("blocks", [0, 1, 7, 8, 19])
@pytest.mark.parametrize("n", [16, 32, 128])
def test_of_each_block(n: int, blocks: int) -> None:
    x = np.random.default_rng(n + blocks).standard_normal(n * blocks, np.float32)
    x[::7] = -0.0
    largest, sums = np.full(blocks, 99, np.uint32), np.full(blocks, 99, np.float32)
    largest_sizes(n)(x.view(np.uint32), largest)
    sums_of_sizes(n)(x, sums)
    for b in range(blocks):
        block = np.abs(x[b * n : (b + 1) * n])
        assert largest.view(np.float32)[b] == block.max()
        in_order = np.float32(0)
        for value in block:
            in_order += value
        assert sums[b] == in_order
