"""Groups in order: ranks are those of a stable sort, and sums go up from the lowest weight."""

from __future__ import annotations

import numpy as np

from quantrecipe.core.grids.iq1_cuts import rank_groups, split_codes, sum_in_order
from quantrecipe.core.lanes import LANES, WORKSPACE, WT, X

N = 16


def workspace() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    x = rng.integers(-3, 4, (N, LANES)).astype(np.float32)
    x[x == 0] = rng.choice([0.0, -0.0], (x == 0).sum())
    w = rng.exponential(1, (N, LANES)).astype(np.float32)
    s = np.zeros(WORKSPACE, np.float32)
    s[X : X + N * LANES], s[WT : WT + N * LANES] = x.ravel(), w.ravel()
    return s, x, w


def test_ranks_are_those_of_a_stable_sort() -> None:
    s, x, _ = workspace()
    ranks = np.empty(N * LANES, np.int32)
    rank_groups(N)(s, ranks)
    order = np.argsort(x, axis=0, kind="stable")
    assert (np.argsort(ranks.reshape(N, LANES), axis=0) == order).all()


def test_sums_are_added_up_in_order_and_leave_out_the_other_half() -> None:
    s, x, w = workspace()
    ranks = np.empty(N * LANES, np.int32)
    sx, sw = np.empty((N + 1) * LANES, np.float32), np.empty((N + 1) * LANES, np.float32)
    rank_groups(N)(s, ranks)
    sum_in_order(N)(s, ranks, 8, N, sx, sw)
    for lane in (0, 7, LANES - 1):
        total_x, total_w = np.float32(0), np.float32(0)
        for place, i in enumerate(np.argsort(x[:, lane], kind="stable")):
            if i >= 8:
                total_x += w[i, lane] * x[i, lane]
                total_w += w[i, lane]
            assert sx[(place + 1) * LANES + lane] == total_x
            assert sw[(place + 1) * LANES + lane] == total_w


def test_cuts_make_three_values_and_mirrored_ones() -> None:
    ranks = np.repeat(np.arange(N, dtype=np.int32), LANES)
    low, high = np.full(LANES, 3, np.int32), np.full(LANES, 10, np.int32)
    mirror = np.zeros(LANES, np.int32)
    mirror[1] = 1
    codes = np.empty(N // 8 * LANES, np.int32)
    split_codes(N)(ranks, low, high, mirror, codes)
    for lane, values in ((0, (0, 1, 2)), (1, (2, 1, 0))):
        integers = [codes[i // 8 * LANES + lane] >> 2 * (i % 8) & 3 for i in range(N)]
        assert integers == [values[0]] * 3 + [values[1]] * 7 + [values[2]] * 6
