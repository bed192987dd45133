"""The search that moves single integers, against the same search of one group in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.scale_searches.make_q3_quants import MOVES_WORKSPACE, SCALE, WIDE, Q, make_q3_quants

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


@pytest.mark.parametrize("groups", [1, 5, WIDE])
def test_every_group_is_as_if_alone(groups: int) -> None:
    rng = np.random.default_rng(groups)
    x = rng.standard_normal((groups, N), np.float32)
    x[::4] = rng.standard_t(2, x[::4].shape)
    x[3::9] = 0
    s = np.full(MOVES_WORKSPACE, np.nan, np.float32)
    make_q3_quants(N, NMAX)(x.reshape(x.size), 0, groups, s)
    for g in range(groups):
        scale, integers = oracle(x[g])
        assert s[SCALE + g] == scale
        assert [int(s[Q + i * WIDE + g]) for i in range(N)] == integers
