"""Cells of points: each point has its place in one of them."""

from __future__ import annotations

import numpy as np
import pytest
from support.point_grids import GRIDS, Points

from quantrecipe.encoders.feedback.cells import CELLS, LANES, MANY, cells_of


@pytest.mark.parametrize("name", ["books of fours", "many eights", "many sizes"])
def test_each_point_is_in_the_cell_of_its_bins(name: str) -> None:
    grid = GRIDS[name]
    (points, numbers, starts, bounds), _ = cells_of(grid)
    size, count = grid.points.shape[1], len(grid.points) // grid.books
    assert points.shape[1:] == (size, LANES)
    assert starts[-1] == len(points)
    for book in range(grid.books):
        its = numbers[starts[book * CELLS] : starts[(book + 1) * CELLS]]
        assert np.sort(its[its >= 0]).tolist() == list(range(count))
        bins = bounds.shape[2] + 1
        assert bins**size == CELLS
        for cell in range(CELLS):
            here = slice(starts[book * CELLS + cell], starts[book * CELLS + cell + 1])
            inside = numbers[here].reshape(-1)
            found = np.moveaxis(points[here], 1, 2).reshape(-1, size)
            assert (found[inside < 0] == 0).all()
            found, inside = found[inside >= 0], inside[inside >= 0]
            assert np.array_equal(found, grid.points[book * count + inside])
            for i in range(size):
                wanted = cell // bins**i % bins
                assert (np.searchsorted(bounds[book, i], found[:, i]) == wanted).all()


@pytest.mark.parametrize(
    ("count", "size", "books", "reach"),
    [
        (MANY, 8, 1, 0),
        (MANY + 1, 8, 1, 6),
        (32, 4, 2, 4),
        (1 << 13, 8, 1, 5),
        (1 << 16, 8, 1, 4),
        (1 << 16, 4, 2, 4),
    ],
)
def test_a_sixteenth_is_tried_but_not_too_few(count: int, size: int, books: int, reach: int) -> None:
    grid = Points(np.random.default_rng(0).normal(size=(count, size)).astype(np.float32), books=books)
    assert cells_of(grid)[1] == reach
