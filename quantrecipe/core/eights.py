"""Eight weights as a point of a grid: what the IQ1 and IQ2 formats share.

The integers of a point, 0 to 2, stand for three values. How far a point is from eight weights is, in ggml, a sum of
eight float32 in the order of the weights:

    ∑ w_i (scale * value(q_i) - x_i)²        iq2_find_best_neighbour, iq1_find_best_neighbour2

A term of it depends on i and q_i only. So all 24 terms are computed once: 24 rows of `terms` (row 3 i + q), with a
column for each eight, or for each scale. A point then costs eight additions, of the rows that `places` names.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core.bits import place
from quantrecipe.core.codebook import grid_points, load_codebook
from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import LANES

__all__ = [
    "AT_ONCE",
    "DECODE_EIGHTS",
    "EIGHT",
    "ENCODE_EIGHTS",
    "LARGEST",
    "LEVELS",
    "NO_IMPORTANCE",
    "TERMS",
    "eights_tables",
    "eights_values",
    "nearest_point",
    "rows_of",
]

F32 = np.float32
LARGEST = F32(np.finfo(np.float32).max)

EIGHT, LEVELS = 8, 3
AT_ONCE = 2
"""Neighbours that are looked at together."""
TERMS = EIGHT * LEVELS

_BOOK = (
    "Tuple((Array(int16, 1, 'C', True), Array(int32, 1, 'C', True), Array(uint16, 1, 'C', True), "
    "Array(uint16, 1, 'C', True), Array(uint16, 1, 'C', True)))"
)
ENCODE_EIGHTS = f"void({_BOOK}, Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), uint8[:,::1])"
"""Signature: what `eights_tables` returns; rows, importance and out as in ENCODE_WEIGHTED."""
DECODE_EIGHTS = "void(Array(float32, 2, 'C', True), Array(uint8, 2, 'C', True), float32[:,::1])"
"""Signature: what `eights_values` returns; data and rows as in DECODE."""
NO_IMPORTANCE = np.empty(0, np.float32)
"""What kernels with one signature for both cases are given when there is none."""

Tables = tuple[
    NDArray[np.int16], NDArray[np.int32], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]
]


@cache
def eights_tables(name: str, *, distances: int) -> Tables:
    """A codebook as kernels take it: index, first, neighbours, codes (see `Codebook`), places.

    places: uint16, eight for each point: where the rows of its terms begin
    """
    book = load_codebook(name, levels=LEVELS, distances=distances, pad=AT_ONCE)
    places = ((np.arange(EIGHT) * LEVELS + book.points) * LANES).astype(np.uint16).reshape(-1)
    places.flags.writeable = False
    return book.index, book.first, book.neighbours, book.codes, places


@cache
def eights_values(name: str, values: tuple[int, int, int]) -> NDArray[np.float32]:
    """What the points of a grid stand for when decoded: float32 (points, 8)."""
    table = np.array(values, np.float32)[grid_points(name, levels=LEVELS)]
    table.flags.writeable = False
    return table


@kernel
def rows_of(places: Any, point: Any) -> Any:
    """Where the rows of a point's eight terms begin."""
    p = place(EIGHT * np.int64(point))
    return (
        places[p], places[p + 1], places[p + 2], places[p + 3],
        places[p + 4], places[p + 5], places[p + 6], places[p + 7],
    )  # fmt: skip


@kernel
def nearest_point(terms: Any, lane: Any, begin: Any, end: Any, neighbours: Any, places: Any) -> Any:
    """The nearest of neighbours[begin:end] by one column of terms: the first, where several are."""
    lane = place(lane)
    least, chosen = LARGEST, neighbours[begin]
    for at in range(begin, end):
        point = neighbours[at]
        r0, r1, r2, r3, r4, r5, r6, r7 = rows_of(places, point)
        total = terms[r0 + lane] + terms[r1 + lane] + terms[r2 + lane] + terms[r3 + lane]
        total = total + terms[r4 + lane] + terms[r5 + lane] + terms[r6 + lane] + terms[r7 + lane]
        chosen = point if total < least else chosen
        least = total if total < least else least
    return chosen
