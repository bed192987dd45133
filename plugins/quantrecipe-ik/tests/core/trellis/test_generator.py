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


def nasty_wishes(count: int, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What weights want, and what each counts: near and far, on points and bounds, and of no or of any importance."""
    rng = np.random.default_rng(4)
    wanted, counts = rng.normal(0, 40, (count, 4)), rng.exponential(1, (count, 4))
    wanted[::5] = made[rng.integers(0, len(made), wanted[::5].shape[0])]
    wanted[1::5] = np.rint(wanted[1::5])  # ties
    wanted[2::7] *= 30  # beyond all points
    wanted[3::11] = 0
    counts[::6] = rng.choice([0, 1, 1e-6, 1e6], counts[::6].shape)
    counts[4::13] = 0
    counts[5::17] *= -1
    return wanted.astype(F32), counts.astype(F32)


def test_cells_that_are_ruled_out_have_nothing_to_offer() -> None:
    """With all cells within reach, it is the first of the points that lose least, to the bit."""
    count, bins = 1 << 10, 4
    book = books(count, 4, bins)
    wanted, counts = nasty_wishes(500, points(count, 4))
    found = np.zeros(500, np.int32)
    nearest_points(4, bins, (bins,) * 4)(*book.arrays, wanted.ravel(), counts.ravel(), found)
    made, losses = book.points.reshape(-1, 4), np.zeros((500, count), F32)
    for k in range(4):
        q, w, y = made[:, k], counts[:, k, None], wanted[:, k, None]
        losses += q * (w * q + F32(-2) * w * y)
    assert found.tolist() == book.indices[losses.argmin(axis=1)].tolist()


def test_what_is_no_number_is_looked_for_within_the_cells() -> None:
    """What a weight wants, or what it counts, is infinite or undefined where scales or importance overflow."""
    count, bins = 1 << 10, 4
    wild = np.array([0, 1, np.inf, -np.inf, np.nan, 1e38, -1e38, 1e-45], F32)
    rng = np.random.default_rng(5)
    wanted, counts = rng.choice(wild, (2000, 4)), rng.choice(wild, (2000, 4))
    found = np.full(2000, -1, np.int32)
    nearest_points(4, bins, (3, 3, 2))(*books(count, 4, bins).arrays, wanted.ravel(), counts.ravel(), found)
    assert ((found >= 0) & (found < count)).all()


def test_the_more_cells_the_less_is_lost() -> None:
    rng, count = np.random.default_rng(2), 1 << 12
    wanted, counts = rng.normal(0, 40, (400, 4)).astype(F32), rng.exponential(1, (400, 4)).astype(F32)
    losses = []
    for reach in ((2,), (2, 2), (3, 2), (3, 3, 2), (3, 3, 3, 3)):
        found = np.zeros(400, np.int32)
        nearest_points(4, 3, reach)(*books(count, 4, 3).arrays, wanted.ravel(), counts.ravel(), found)
        losses.append(float((counts * (points(count, 4)[found] - wanted) ** 2).sum()))
    assert losses == sorted(losses, reverse=True)
