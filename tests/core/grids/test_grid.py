"""Grids: the points are gguf-py's, and every list of neighbours is what the definition says."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from quantrecipe.core.grids.grid import PAD, grid_points, load_grid

BOOKS = [
    ("iq1", 3, 3, "IQ1_S"),
    ("iq1", 3, 3, "IQ1_M"),
    ("iq2_xxs", 3, 2, "IQ2_XXS"),
    ("iq2_xs", 3, 2, "IQ2_XS"),
    ("iq2_s", 3, 1, "IQ2_S"),
    ("iq3_xxs", 8, 2, "IQ3_XXS"),
    ("iq3_s", 8, 3, "IQ3_S"),
]


@pytest.mark.parametrize(("name", "levels", "distances", "source"), BOOKS)
def test_points_are_those_of_gguf_py(name: str, levels: int, distances: int, source: str) -> None:
    quant = getattr(gguf.quants, source)
    quant.init_grid()
    values = np.array(quant.grid_map, np.float32)
    points = grid_points(name, levels=levels)
    assert len(values) == levels
    np.testing.assert_array_equal(values[points], quant.grid.reshape(quant.grid_shape))


@pytest.mark.parametrize(("name", "levels", "distances", "source"), BOOKS)
@pytest.mark.slow
def test_neighbours_are_the_points_at_the_nearest_distances_in_order(
    name: str, levels: int, distances: int, source: str
) -> None:
    book = load_grid(name, levels=levels, distances=distances)
    length = book.points.shape[1]
    bits = (levels - 1).bit_length()
    rng = np.random.default_rng(7)
    for integers in rng.integers(0, levels, (200, length)):
        code = int((integers << bits * np.arange(length)).sum())
        listed = book.neighbours[book.first[code] : book.first[code + 1]].tolist()
        squares = [int(((point.astype(int) - integers) ** 2).sum()) for point in book.points]
        if 0 in squares:
            assert book.index[code] == squares.index(0)
            assert book.codes[book.index[code]] == code
            assert listed == []
            continue
        reach = sorted(set(squares))[:distances][-1]
        wanted = [i for _, i in sorted((d, i) for i, d in enumerate(squares) if d <= reach)]
        assert book.index[code] == -1
        assert listed == wanted + wanted[-1:] * (-len(wanted) % PAD)


@pytest.mark.parametrize(("name", "levels", "distances", "source"), BOOKS[1:])
def test_short_lists_hold_every_neighbour_that_can_be_the_nearest(
    name: str, levels: int, distances: int, source: str
) -> None:
    book = load_grid(name, levels=levels, distances=distances, pad=1, short=True)
    whole = load_grid(name, levels=levels, distances=distances, pad=1)
    codes, length = whole.index.size, whole.points.shape[1]
    assert (np.diff(book.first)[codes:] == np.diff(whole.first)).all()
    if distances > 1:
        assert book.first[codes] < 0.9 * whole.first[-1]
    rng = np.random.default_rng(8)
    shifts = (levels - 1).bit_length() * np.arange(length)
    for integers in rng.integers(0, levels, (300, length)):
        code = int((integers << shifts).sum())
        listed = whole.points[whole.neighbours[whole.first[code] : whole.first[code + 1]]]
        if not len(listed):
            continue
        short = book.points[book.neighbours[book.first[code] : book.first[code + 1]]]
        # Anything that rounds to these integers, weights of all sizes and of none, and ties of both.
        x = (
            integers
            + rng.choice([-0.49, -0.25, 0, 0.25, 0.49], length)
            - 3 * (integers == 0) * rng.random(length)
        )
        w = rng.choice([0.0, 1.0, 1e-6, 1e6, rng.random()], length)
        far = [((w * (points - x) ** 2).astype(np.float32)).sum(axis=1) for points in (listed, short)]
        assert (listed[far[0].argmin()] == short[far[1].argmin()]).all()


def test_codes_with_an_integer_out_of_range_have_no_neighbours() -> None:
    book = load_grid("iq2_xxs", levels=3, distances=2)
    assert book.index[3] == -1
    assert book.first[3] == book.first[4]


def test_a_grid_cannot_be_changed() -> None:
    book = load_grid("iq2_xxs", levels=3, distances=2)
    for array in (book.points, book.codes, book.index, book.first, book.neighbours):
        assert not array.flags.writeable
