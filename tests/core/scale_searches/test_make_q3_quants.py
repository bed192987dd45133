"""The search that moves single integers, against the same search of one group in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.scale_searches.make_q3_quants import MANY, WIDE, make_q3_quants, moves_room, round_moved

N, NMAX = 16, 4


def oracle(x: np.ndarray) -> tuple[np.float32, list[int]]:
    """Scale, and integers with NMAX added."""
    x = x.astype(np.float32)
    size = np.abs(x).max()
    if size < np.float32(1e-15):
        return np.float32(0), [0] * N
    peak = x[np.argmax(np.abs(x))]
    q = np.clip(np.rint(np.float32(-NMAX) / peak * x), -NMAX, NMAX - 1)
    w = x * x
    sxl = sl2 = np.float32(0)
    for i in range(N):
        sxl, sl2 = sxl + w[i] * x[i] * q[i], sl2 + w[i] * q[i] * q[i]
    for _ in range(5):
        moved = False
        for i in range(N):
            a, b = sxl - w[i] * x[i] * q[i], sl2 - w[i] * q[i] * q[i]
            if a > 0:
                new = np.clip(np.rint(x[i] * b / a), -NMAX, NMAX - 1).astype(np.float32)
                c, d = a + w[i] * x[i] * new, b + w[i] * new * new
                if new != q[i] and d > 0 and c * c * sl2 > sxl * sxl * d:
                    q[i], sxl, sl2, moved = new, c, d, True
        if not moved:
            break
    return sxl / sl2 if sl2 > 0 else np.float32(0), [int(v) + NMAX for v in q]


def nasty_groups(count: int) -> np.ndarray:
    """Groups whose integers do move, and some that `doubt` can't speak for."""
    rng = np.random.default_rng(count)
    x = -abs(rng.standard_normal((count, N), np.float32)) * rng.choice([1, 1, 1, -1], (count, N)).astype(
        np.float32
    )
    x[::4] = rng.standard_t(2, x[::4].shape)
    x[3::9] = 0
    x[4::9] = rng.integers(-4, 4, x[4::9].shape)  # nothing to gain by moving
    x[5::9, 3] = -1000  # one weight is all
    x[6::9] *= np.float32(1e-14)
    x[7::9] *= np.float32(1e3)
    return x


@pytest.mark.parametrize("groups", [1, 5, WIDE, WIDE + 3, MANY])
def test_every_group_is_as_if_alone(groups: int) -> None:
    x = nasty_groups(groups)
    scales = np.full(groups, np.nan, np.float32)
    make_q3_quants(N, NMAX)(x.reshape(x.size), 0, groups, moves_room.function(), scales)
    levels = np.empty(groups * N, np.uint8)
    for g in range(groups):
        scale, integers = oracle(x[g])
        assert scales[g] == scale
        round_moved(N, NMAX)(x.reshape(x.size), g * N, levels, g * N)
        assert levels[g * N : (g + 1) * N].tolist() == integers
