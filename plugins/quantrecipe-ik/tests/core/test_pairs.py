"""Pairs of IQ2_KL: of the eight neighbours, the few that are looked at always have the best among them."""

from __future__ import annotations

import numpy as np

from quantrecipe_ik.core.pairs import PAIRS, code_near
from quantrecipe_ik.core.value_tables import THREE_BITS

F32 = np.float32
VALUES = np.array(THREE_BITS.plain, F32)


def by_all_neighbours(x: np.float32, y: np.float32, w: np.float32, v: np.float32) -> int:
    """The reference's choice: the two nearest values, or the best of the eight pairs next to them."""
    row, column = (int(np.argmin(np.abs(VALUES - value))) for value in (x, y))
    wanted = np.array([VALUES[row], VALUES[column]])
    if (exact := np.flatnonzero((wanted == PAIRS).all(axis=1))).size:
        return int(exact[0])
    away = ((PAIRS - wanted) ** 2).sum(axis=1)
    tried = np.argsort(away, kind="stable")[:8]
    a, b = PAIRS[tried, 0] - x, PAIRS[tried, 1] - y
    return int(tried[np.argmin(w * a * a + v * b * b)])


def test_the_best_of_all_neighbours_is_found() -> None:
    rng, near = np.random.default_rng(0), code_near()
    for _ in range(3000):
        x, y = rng.uniform(-90, 90, 2).astype(F32)
        w, v = (rng.exponential(1, 2) ** 3).astype(F32)
        first, second, code = near(x, y, w, v)
        assert code == by_all_neighbours(x, y, w, v)
        assert (first, second) == tuple(PAIRS[code])


def test_there_are_thirty_two_different_pairs() -> None:
    assert len({tuple(pair) for pair in PAIRS}) == 32
