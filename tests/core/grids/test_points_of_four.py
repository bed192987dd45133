"""Fours of weights: tables, and the nearest neighbours as a naive search finds them."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.grids.grid import PAD, load_grid
from quantrecipe.core.grids.iq3_neighbours import (
    AT_ONCE,
    CODES,
    FOUR,
    LANES,
    LEVELS,
    LIST_MASK,
    LONGEST,
    ROOM,
    do_jobs,
    do_jobs_once,
    write_list,
)
from quantrecipe.core.grids.iq3_search import FOURS, GROUP, lowest_bit
from quantrecipe.core.grids.points_of_four import fours_tables, fours_values

BOOKS = [("iq3_xxs", 2), ("iq3_s", 3)]
each_book = pytest.mark.parametrize(("name", "distances"), BOOKS, ids=[name for name, _ in BOOKS])

LARGEST = np.finfo(np.float32).max


def list_of(name: str, distances: int, code: int) -> list[int]:
    _, first, neighbours = fours_tables(name, distances=distances)
    return neighbours[first[code] : first[code + 1]].tolist()


def nearest(listed: list[int], terms: np.ndarray) -> int:
    """The first of the codes whose terms, (FOUR, LEVELS), have the least sum below the largest float32."""
    chosen, least = listed[0], LARGEST
    for code in listed:
        total = np.float32(0)
        for i in range(FOUR):
            with np.errstate(over="ignore"):
                total += terms[i, code >> 3 * i & 7]
        if total < least:
            chosen, least = code, total
    return chosen


def random_terms(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Few different numbers, so that there are ties; some as large as can be."""
    terms = rng.integers(0, 4, shape).astype(np.float32)
    terms[rng.random(shape) < 0.2] = LARGEST
    return terms


@each_book
def test_lists_are_the_grid_s_and_points_are_their_own(name: str, distances: int) -> None:
    book = load_grid(name, levels=LEVELS, distances=distances, short=True)
    for key in range(0, 2 * CODES, 7):
        listed = list_of(name, distances, key)
        if book.index[key % CODES] >= 0:
            assert listed == [key % CODES] * PAD
        else:
            assert listed == book.codes[book.neighbours[book.first[key] : book.first[key + 1]]].tolist()


@each_book
def test_places_and_lengths_fit_into_jobs(name: str, distances: int) -> None:
    _, first, neighbours = fours_tables(name, distances=distances)
    assert neighbours.size + AT_ONCE * PAD <= LIST_MASK
    assert np.diff(first).max() <= LONGEST * PAD
    assert FOURS * ROOM <= 256


@each_book
def test_the_nearest_neighbour_of_many_lists(name: str, distances: int) -> None:
    _, first, neighbours = fours_tables(name, distances=distances)
    rng = np.random.default_rng(1)
    for _ in range(20):
        wanted = rng.integers(0, 2 * CODES, FOURS)
        terms = random_terms(rng, (FOURS, FOUR, LEVELS))
        jobs, codes = np.zeros(FOURS * LONGEST + AT_ONCE, np.int32), np.zeros(2 * FOURS, np.int32)
        count = 0
        for four, code in enumerate(wanted):
            count += write_list(first, code, four, count, jobs)
        do_jobs_once(neighbours, jobs, count, terms.reshape(-1), codes)
        expected = [nearest(list_of(name, distances, code), terms[four]) for four, code in enumerate(wanted)]
        assert codes[:FOURS].tolist() == expected


@each_book
def test_the_nearest_neighbour_for_many_tries(name: str, distances: int) -> None:
    _, first, neighbours = fours_tables(name, distances=distances)
    rng = np.random.default_rng(2)
    flat = np.zeros(GROUP * LEVELS * ROOM + LANES, np.float32)
    terms = flat[:-LANES].reshape(FOURS, FOUR, LEVELS, ROOM)
    found = np.zeros(FOURS * ROOM + LANES, np.float32)
    for _ in range(3):
        terms[:] = random_terms(rng, terms.shape)
        jobs = np.zeros(1 << 12, np.int32)
        wanted = np.zeros((FOURS, ROOM), np.int64)
        count = 0
        for four in range(FOURS):
            starts = [0, *sorted(rng.choice(np.arange(1, ROOM), 5, replace=False).tolist())]
            for start, end in zip(starts, [*starts[1:], ROOM], strict=True):
                wanted[four, start:end] = code = rng.integers(0, 2 * CODES)
                for t in range(start, end, LANES):
                    count += write_list(first, code, four * ROOM + t, count, jobs)
        do_jobs(neighbours, jobs, count, LANES, flat, np.zeros(2 * LANES, np.float32), found)
        for four in range(FOURS):
            for t in range(ROOM):
                expected = nearest(list_of(name, distances, wanted[four, t]), terms[four, :, :, t])
                assert found[four * ROOM + t] == expected


def test_the_lowest_set_bit() -> None:
    for bit in range(32):
        assert lowest_bit(np.uint32(1 << bit)) == bit
        assert lowest_bit(np.uint32(0xFFFFFFFF << bit & 0xFFFFFFFF)) == bit


def test_values_of_points() -> None:
    values = fours_values("iq3_xxs", (4, 12, 20, 28, 36, 44, 52, 62))
    assert values.shape == (256, 4)
    assert not values.flags.writeable
    assert set(np.unique(values)) == {4, 12, 20, 28, 36, 44, 52, 62}
