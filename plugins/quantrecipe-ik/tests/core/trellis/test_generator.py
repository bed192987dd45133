"""Points of the trellis types, and the search among them."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe_ik.core.trellis.generator import OFFSET, books, coordinate, points
from quantrecipe_ik.core.trellis.search import nearest_points

F32 = np.float32


def test_points_are_made_as_the_generator_says() -> None:
    made = points(1 << 13, 8)
    state, expected = 77 + OFFSET, []
    for _ in range(8):
        state = state * 0xCBAC1FED & 0xFFFFFFFF
        expected.append(sum(state >> shift & 0x3F for shift in (0, 8, 16, 24)) - 126)
    assert made[77].tolist() == expected
    assert [coordinate(np.int32(77), k, OFFSET) for k in range(8)] == expected
    assert np.array_equal(points(100, 8, positive=True), np.abs(made[:100]))


@pytest.mark.parametrize("bins", [2, 3])
def test_cells_hold_every_point_once_within_their_bounds(bins: int) -> None:
    two = books(1 << 12, 4, bins, offsets=(OFFSET, OFFSET + (1 << 12)))
    starts, bounds = two.starts.reshape(2, -1), two.bounds.reshape(2, 4, bins - 1)
    for book in range(2):
        first, last = starts[book][0], starts[book][-1]
        assert sorted(two.indices[first:last]) == list(range(1 << 12))
        made = points(1 << 12, 4, offset=OFFSET + book * (1 << 12))
        assert np.array_equal(two.points.reshape(-1, 4)[first:last], made[two.indices[first:last]])
        for cell in range(bins**4):
            inside = two.points.reshape(-1, 4)[starts[book][cell] : starts[book][cell + 1]]
            for k in range(4):
                bin_ = cell // bins**k % bins
                low = bounds[book, k, bin_ - 1] if bin_ > 0 else -np.inf
                high = bounds[book, k, bin_] if bin_ < bins - 1 else np.inf
                assert ((inside[:, k] > low) & (inside[:, k] <= high)).all()


def test_all_cells_together_give_the_best_point_of_all() -> None:
    rng, count = np.random.default_rng(1), 1 << 10
    wanted, counts = rng.normal(0, 40, (50, 4)).astype(F32), rng.exponential(1, (50, 4)).astype(F32)
    found = np.zeros(50, np.int32)
    nearest = nearest_points(4, 2, (2, 2, 2, 2))
    nearest(*books(count, 4, 2).arrays, wanted.ravel(), counts.ravel(), found)
    away = ((points(count, 4)[None] - wanted[:, None]) ** 2 * counts[:, None]).sum(axis=2)
    lost = away[np.arange(50), found]
    assert np.allclose(lost, away.min(axis=1), rtol=1e-4)


def test_the_more_cells_the_less_is_lost() -> None:
    rng, count = np.random.default_rng(2), 1 << 12
    wanted, counts = rng.normal(0, 40, (400, 4)).astype(F32), rng.exponential(1, (400, 4)).astype(F32)
    losses = []
    for reach in ((2,), (2, 2), (3, 2), (3, 3, 2), (3, 3, 3, 3)):
        found = np.zeros(400, np.int32)
        nearest_points(4, 3, reach)(*books(count, 4, 3).arrays, wanted.ravel(), counts.ravel(), found)
        losses.append(float((counts * (points(count, 4)[found] - wanted) ** 2).sum()))
    assert losses == sorted(losses, reverse=True)
