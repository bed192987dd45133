"""Grids: a few hundred points that stand for groups of weights, and what is needed to find the nearest one.

A group of n weights is rounded to n small integers. Packed together, `bits` for each, the first lowest, they are the
group's *code*. Where the code is a point of the grid, that's the one; where it isn't, ggml tries the code's
neighbours: the points at its nearest few distances, in the order distance, index. The first of the best wins, so the
order is part of the answer.

ggml builds these lists when it starts (iq2xs_init_impl, iq3xs_init_impl); so is it here, at first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core.kernel_format import Kernels, PointKernels

__all__ = ["NO_IMPORTANCE", "PAD", "Grid", "grid_kernels", "grid_points", "load_grid"]

TABLES = Path(__file__).with_name("tables")

NO_IMPORTANCE = np.empty(0, np.float32)
"""What kernels with one signature for both cases are given when there is none."""

PAD = 4
ROWS = 1 << 12
"""Codes whose distances to all points are looked at together."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Grid:
    """A grid of points and the neighbours of every code. The arrays are read-only.

    points:     uint8 (g, n), the integers of each point
    codes:      uint16 (g,), the code of each point
    index:      int16 (2 ** (bits n),), the point with this code, -1 where there is none
    first:      int32 (2 ** (bits n) + 1,): the list of a code is neighbours[first[code]:first[code + 1]];
                of twice as many lists, where there are short ones
    neighbours: uint16, indices of points; lists of codes that are points, or hold an integer out of range, are empty
    """

    points: NDArray[np.uint8]
    codes: NDArray[np.uint16]
    index: NDArray[np.int16]
    first: NDArray[np.int32]
    neighbours: NDArray[np.uint16]


@cache
def load_grid(name: str, *, levels: int, distances: int, pad: int = PAD, short: bool = False) -> Grid:
    """The grid of tables/NAME.grid, whose integers are below `levels`; lists take in so many distances.

    Lists have a multiple of `pad` entries, the last one repeated, so that loops over them can go by as many at a time.
    With `short`, the lists come after short ones, which leave out what can't win: list c is the short one of code c,
    list 2 ** (bits n) + c the whole one.
    """
    points = grid_points(name, levels=levels)
    count, length = points.shape
    bits = (levels - 1).bit_length()
    shifts = bits * np.arange(length)
    codes = (points.astype(np.uint16) << shifts.astype(np.uint16)).sum(axis=1, dtype=np.uint16)
    index = np.full(1 << bits * length, -1, np.int16)
    index[codes] = np.arange(count, dtype=np.int16)

    every = np.arange(index.size)
    integers = every[:, None] >> shifts & (1 << bits) - 1
    strangers = every[(integers < levels).all(axis=1) & (index < 0)]
    parts = np.array_split(strangers, -(-strangers.size // ROWS))
    lists = [_nearest(integers[part], points, distances) for part in parts]
    sizes = np.zeros(index.size, np.int64)
    sizes[strangers] = np.concatenate([counts for counts, _ in lists])
    neighbours = np.concatenate([found for _, found in lists])
    if short:
        owner = np.repeat(every, sizes)
        kept = _can_win(owner, points[neighbours].astype(np.int64) - integers[owner])
        neighbours = np.concatenate([neighbours[kept], neighbours])
        sizes = np.concatenate([np.bincount(owner[kept], minlength=sizes.size), sizes])

    # Where an entry goes in the padded lists, and which entry a place there comes from.
    padded = -(-sizes // pad) * pad
    first = np.concatenate([[0], np.cumsum(padded)])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    place = np.arange(first[-1]) - np.repeat(first[:-1], padded)
    source = np.repeat(starts, padded) + np.minimum(place, np.repeat(sizes - 1, padded))
    grid = Grid(
        points=points,
        codes=codes,
        index=index,
        first=first.astype(np.int32),
        neighbours=neighbours[source],
    )
    for array in (grid.points, grid.codes, grid.index, grid.first, grid.neighbours):
        array.flags.writeable = False
    return grid


def grid_kernels(
    *,
    tables: Callable[[], object],
    encode: Callable[..., None],
    values: Callable[[], object],
    decode: Callable[..., None],
    grid: PointKernels | None = None,
    needs_importance: bool = False,
) -> Kernels:
    """The kernels of a format that looks points up: encode(tables, rows, importance, out), decode(values, data, rows).

    tables and values are called when something is encoded or decoded, and keep what they make: building the lists of
    neighbours takes time, which importing a format must not take. Without importance, encode is given NO_IMPORTANCE.
    """

    def plain(rows: NDArray[Any], out: NDArray[Any]) -> None:
        encode(tables(), rows, NO_IMPORTANCE, out)

    def weighted(rows: NDArray[Any], importance: NDArray[Any], out: NDArray[Any]) -> None:
        encode(tables(), rows, importance, out)

    def decode_rows(data: NDArray[Any], rows: NDArray[Any]) -> None:
        decode(values(), data, rows)

    return Kernels(
        encode=None if needs_importance else plain, encode_weighted=weighted, decode=decode_rows, grid=grid
    )


def grid_points(name: str, *, levels: int) -> NDArray[np.uint8]:
    """The points of tables/NAME.grid, whose integers are below `levels`: uint8 (g, n)."""
    lines = (TABLES / f"{name}.grid").read_text(encoding="utf-8").splitlines()
    words = np.array([int(word, 16) for line in lines if not line.startswith("#") for word in line.split()])
    bits = (levels - 1).bit_length()
    length = 8 if bits == 2 else 4
    points = words[:, None] >> bits * np.arange(length) & (1 << bits) - 1
    return points.astype(np.uint8)


def _nearest(
    integers: NDArray[Any], points: NDArray[Any], distances: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """How many neighbours each row of integers has, and the neighbours of all rows, one row after the other."""
    a, b = integers.astype(np.float32), points.astype(np.float32)
    # Whole numbers far below 2^24: exact in any order.
    squares = ((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T).astype(np.int16)
    reach = squares.min(axis=1)
    for _ in range(distances - 1):
        reach = np.where(squares > reach[:, None], squares, np.int16(32767)).min(axis=1)
    near = squares <= reach[:, None]
    row, point = np.nonzero(near)
    order = np.lexsort((point, squares[row, point], row))
    return near.sum(axis=1), point[order].astype(np.uint16)


def _can_win(owner: NDArray[Any], away: NDArray[Any]) -> NDArray[np.bool_]:
    """Which neighbours can be the nearest, of eights or fours that are rounded to their owner: bool (n,).

    owner: int64 (n,), the codes that neighbours are listed for, in order; away: int64 (n, length), how many steps they
    are from them. What is rounded to an integer is nearer to it than to the next one on either side, and nearer to that
    than to the one after it. So a neighbour can't win if an earlier one lies between it and the code in every weight,
    whatever the weights count. (An earlier one also wins where they are equally far.)
    """
    steps = np.column_stack([np.maximum(away, 0), np.maximum(-away, 0)])
    # All steps up and down in one number, each below a bit that stays set in a difference where nothing borrows it.
    width = int(steps.max()).bit_length() + 1
    shifts = width * np.arange(steps.shape[1])
    packed, guard = (steps << shifts).sum(axis=1), int((1 << shifts + width - 1).sum())
    position = np.arange(owner.size) - np.searchsorted(owner, owner)
    kept, later = np.ones(owner.size, bool), np.arange(owner.size)
    for lag in range(1, position.max() + 1):
        later = later[position[later] >= lag]
        beaten = (packed[later] + guard - packed[later - lag]) & guard == guard
        kept[later[beaten]] = False
        later = later[~beaten]
    return kept
