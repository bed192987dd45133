"""In which order columns are rounded: the largest inputs first, as far as a format's blocks allow it.

What is rounded first has the most columns left that can make its errors good. So blocks go in the order of their mean
square of inputs, and so do columns within a block, or the eights of a grid of points.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from quantrecipe.api import Grid, PointGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import FloatArray, QuantFormat

__all__ = ["Together", "keeps_together", "kept_together", "order_of"]


_EIGHT = 8
"""Weights whose signs are stored together."""

Together: TypeAlias = tuple[int, int, tuple[int, ...]]
"""How many columns stay together as a block (0: all of a row), and as a unit; and of a group, where its units are.

The places are those of a group's columns, unit by unit; () where each unit has columns in a row.
"""


def kept_together(fmt: QuantFormat) -> Together:
    """Which columns of a format stay together."""
    by_row = fmt.spec.row_meta_bytes > 0 or fmt.spec.rows_per_group > 1
    block, grid = 0 if by_row else fmt.spec.block, fmt.grid
    if isinstance(grid, PointGrid):
        return block, grid.points.shape[1] if grid.signed else _EIGHT, ()
    if isinstance(grid, Grid) and grid.fours:
        return block, len(grid.fours[0]), tuple(place for four in grid.fours for place in four)
    return block, 1, ()


def order_of(diagonal: FloatArray, block: int, unit: int, places: tuple[int, ...] = ()) -> NDArray[np.intp]:
    """The columns in the order of rounding: whole blocks, and whole units in them. Ties keep the order of the matrix.

    diagonal: the mean square of each input; block, unit, places: see `Together`
    """
    k = diagonal.size
    block = block or k
    parts = _by_units(k, places).reshape(-1, block // unit, unit)
    sizes = np.array([[_mean(diagonal[columns]) for columns in units] for units in parts])
    within = np.argsort(-sizes, axis=1, kind="stable")
    blocks = np.argsort([-_mean(it) for it in sizes], kind="stable")
    ordered: NDArray[np.intp] = np.take_along_axis(parts, within[..., None], axis=1)[blocks].reshape(k)
    return ordered


def keeps_together(columns: NDArray[np.intp], block: int, unit: int, places: tuple[int, ...] = ()) -> bool:
    """Whether an order leaves these blocks and units whole. Units keep the order of their columns, too."""
    blocks = np.sort(columns.reshape(-1, block or columns.size), axis=1)
    units = np.argsort(_by_units(columns.size, places))[columns].reshape(-1, unit)
    return all(
        bool((it[:, 0] % it.shape[1] == 0).all() and (np.diff(it, axis=1) == 1).all())
        for it in (blocks, units)
    )


def _by_units(k: int, places: tuple[int, ...]) -> NDArray[np.intp]:
    """The columns, unit by unit."""
    columns = np.arange(k)
    return columns.reshape(-1, len(places))[:, list(places)].reshape(k) if places else columns


def _mean(numbers: NDArray[np.floating]) -> float:
    """Rounded once, so that no machine has another order."""
    return fsum(numbers.tolist()) / numbers.size
