"""The nearest of a code's neighbours: the first of the least sums, each in the order of its weights."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.grids.points_of_eight import (
    BLOCK,
    EIGHT,
    LEVELS,
    PLACES,
    ROW,
    SUMS,
    TERMS,
    TOGETHER,
    eights_tables,
    eights_values,
    nearest_code,
)
from quantrecipe.core.lanes import LANES


def sums(terms: np.ndarray, lane: int, codes: np.ndarray) -> list[np.float32]:
    found = []
    for code in codes.tolist():
        total = np.float32(0)
        for i in range(EIGHT):
            total += terms[(LEVELS * i + (code >> 2 * i & 3)) * LANES + lane]
        found.append(total)
    return found


@pytest.mark.parametrize("kind", ["many sizes", "ties", "infinite", "none"])
def test_nearest_code_is_the_first_of_the_nearest(kind: str) -> None:
    _, first, _, codes, _ = eights_tables("iq2_xs", distances=2)
    rng = np.random.default_rng(3)
    least, found = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    strangers = np.flatnonzero(np.diff(first))
    for code in rng.choice(strangers, 60):
        terms = (10.0 ** rng.uniform(-8, 3, TERMS * LANES)).astype(np.float32)
        if kind == "ties":
            terms = rng.integers(0, 2, TERMS * LANES).astype(np.float32)
        elif kind == "infinite":
            terms[rng.random(terms.size) < 0.2] = np.inf
        elif kind == "none":
            terms[:] = np.nan
        lane, begin, end = int(rng.integers(0, LANES)), int(first[code]), int(first[code + 1])
        listed = sums(terms, lane, codes[begin:end])
        nearest = int(np.argmin(listed)) if np.isfinite(listed).any() else 0
        assert nearest_code(terms, lane, begin, end, codes, least, found) == codes[begin + nearest]


def test_places_are_the_rows_that_make_up_a_point_s_distance() -> None:
    index, _, neighbours, codes, places = eights_tables("iq1", distances=3)
    assert (index[codes[: neighbours.size]] == neighbours).all()
    for point in (0, 1, 700, 2047):
        code = int(codes[np.flatnonzero(neighbours == point)[0]])
        integers = [code >> 2 * i & 3 for i in range(EIGHT)]
        rows = [integers[0] + 3 * integers[1]]
        rows += [SUMS + LEVELS * i + q for i, q in enumerate(integers[TOGETHER:])]
        assert places[PLACES * point : PLACES * (point + 1)].tolist() == [row * ROW for row in rows]


def test_values_of_the_first_points() -> None:
    assert eights_values("iq2_xxs", (8, 25, 43))[1].tolist() == [43, 8, 8, 8, 8, 8, 8, 8]
    assert eights_values("iq1", (-1, 0, 1))[0].tolist() == [-1] * 8
