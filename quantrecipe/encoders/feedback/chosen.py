"""What the weights of a panel become, by the grid that a format has: block by block, then by descent.

panel   as in `rows.py`: columns lie side by side in memory, in the order of rounding: (k, lanes)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import PointGrid
from quantrecipe.encoders.feedback.cells import cells_of
from quantrecipe.encoders.feedback.choice import add_lost
from quantrecipe.encoders.feedback.descent import descend, slopes, stand
from quantrecipe.encoders.feedback.fours import FOUR, descend_fours, round_fours
from quantrecipe.encoders.feedback.order import kept_together
from quantrecipe.encoders.feedback.points import descend_points, round_points
from quantrecipe.encoders.feedback.rounding import round_block
from quantrecipe.encoders.feedback.turning import bytes_of_rows, lanes_of, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray, Grid, QuantFormat
    from quantrecipe.encoders.feedback.factor import Factor

__all__ = ["Chosen", "chosen_of"]

_EIGHT = 8
"""Weights whose signs are stored together."""


class Chosen:
    """Of a format without a grid: a block is what its encoder made of it.

    lost: what rows lose so far, before any descent: float32 (lanes,)
    _places: where each column stands in the order of rounding, intp (k,)
    """

    def __init__(self, fmt: QuantFormat, factor: Factor, n: int, width: int) -> None:
        self._fmt, self._factor, self._n, self._width = fmt, factor, n, width
        self.lost = np.zeros(width, np.float32)
        self._places = np.argsort(factor.columns)

    def give_up(self, best: FloatArray) -> None:
        """Rows whose errors have become too large for float32: the format makes them, and here they are zero."""
        beyond = ~np.isfinite(best).all(axis=0)
        if beyond.any():
            best[:, beyond] = 0
            self.lost[beyond] = np.nan

    def round(
        self, at: int, data: ByteArray, best: FloatArray, target: FloatArray, w: FloatArray, left: FloatArray
    ) -> None:
        """Choose what the block at this column becomes, with the scales in data; w minus that goes to `left`.

        best: what the block's weights were best, were there no grid; target: the same without errors of the block
        """
        np.subtract(w, lanes_of(self._fmt.decode(data, len(w)), self._inside(at, len(w))), out=left)
        self._lose(at, len(w), best - (w - left))

    def _inside(self, at: int, count: int) -> NDArray[np.intp]:
        """The columns of the block at this place, counted from its first."""
        columns = self._factor.columns[at : at + count]
        found: NDArray[np.intp] = columns - columns.min()
        return found

    def _lose(self, at: int, group: int, off: FloatArray) -> None:
        """Take down what the columns from this one on lose: see `add_lost`."""
        factor = self._factor
        add_lost(factor.unit, factor.variances, at, group, off, self.lost)

    def _slopes(self, missed: FloatArray, n: int) -> FloatArray:
        """P = R H of the first n rows, from what columns missed their targets by: float32 (n, k), in its own order."""
        missed *= self._factor.variances[:, None]
        columns = np.zeros_like(missed)
        slopes(self._factor.unit, missed, columns)
        return rows_of(columns, n, self._places)

    def store(self, out: ByteArray, rounds: int) -> None:
        """Write what was chosen for all blocks to the rows' bytes, which have the scales."""


class _Values(Chosen):
    """Of a grid of values for single weights. Kernels take these in ascending order.

    halfway: between each two of them
    even:    1 where they are whole numbers without gaps, else 0
    choice:  by number in this order, what the format calls it
    """

    def __init__(self, fmt: QuantFormat, factor: Factor, n: int, width: int, grid: Grid) -> None:
        super().__init__(fmt, factor, n, width)
        self._grid = grid
        values, first = np.unique(np.asarray(grid.values, np.float32), return_index=True)
        self._even = int((np.diff(values) == 1).all() and (values == np.rint(values)).all())
        self._values, self._halfway = values, (values[:-1] + values[1:]) / np.float32(2)
        self._choice = first.astype(np.uint8)
        k = len(factor.variances)
        self._missed, self._choices = np.empty((k, width), np.float32), np.empty((k, width), np.uint8)
        self._found: list[tuple[int, FloatArray, FloatArray, FloatArray]] = []

    def round(
        self, at: int, data: ByteArray, best: FloatArray, target: FloatArray, w: FloatArray, left: FloatArray
    ) -> None:
        scales, offsets = self._grid.scales(data, len(w))
        shifts = self._grid.shifts(data, len(w))
        shifts = np.zeros_like(scales) if shifts is None else shifts
        self._found.append((at, scales, offsets, shifts))
        here = slice(at, at + len(w))
        round_block(
            self._factor.unit, at, self._inside(at, len(w)) // self._grid.group, target, w,
            lanes_of(scales), lanes_of(offsets), lanes_of(shifts), self._values, self._halfway, self._even,
            self._choices[here], left, self._missed[here],
        )  # fmt: skip
        self._lose(at, 1, self._missed[here])

    def store(self, out: ByteArray, rounds: int) -> None:
        chosen = bytes_of_rows(self._choices, self._n, self._places)
        if rounds:
            self._descend(chosen, rounds)
        self._grid.store(out, np.take(self._choice, chosen))

    def _descend(self, choices: ByteArray, rounds: int) -> None:
        """Rounds of descent on choices (n, k), which are changed. Ends where a round changes nothing."""
        found = sorted(self._found, key=lambda it: int(self._factor.columns[it[0]]))
        scales, offsets, shifts = (
            np.concatenate(parts, axis=1) for parts in list(zip(*found, strict=True))[1:]
        )
        factor, group, p = self._factor, self._grid.group, self._slopes(self._missed, self._n)
        q = np.empty_like(p)
        stand(choices, group, scales, offsets, shifts, self._values, q)
        inverse = np.float32(1) / np.diagonal(factor.gram)
        for _ in range(rounds):
            if not descend(
                factor.gram, inverse, group, p, q, scales, offsets, shifts,
                self._values, self._halfway, self._even, choices,
            ):  # fmt: skip
                break


class _Fours(Chosen):
    """The same where of each four weights an even number takes odd values.

    values, halfway, own: those of even values, and of odd ones; of the fewer, the last one again and again
    """

    def __init__(self, fmt: QuantFormat, factor: Factor, n: int, width: int, grid: Grid) -> None:
        super().__init__(fmt, factor, n, width)
        self._grid, k = grid, len(factor.variances)
        values, odd = np.asarray(grid.values, np.float32), np.array(grid.odd)
        sides = [np.flatnonzero(odd == side) for side in (False, True)]
        sides = [numbers[np.argsort(values[numbers], kind="stable")] for numbers in sides]
        most = max(map(len, sides))
        self._own = np.array([np.pad(it, (0, most - len(it)), "edge") for it in sides], np.uint8)
        self._values = values[self._own]
        self._halfway = (self._values[:, :-1] + self._values[:, 1:]) / np.float32(2)
        self._choices = np.empty((k, width), np.uint8)
        self._missed, self._q = np.empty((k, width), np.float32), np.empty((k, width), np.float32)
        self._found: list[tuple[int, FloatArray, FloatArray, FloatArray]] = []

    def round(
        self, at: int, data: ByteArray, best: FloatArray, target: FloatArray, w: FloatArray, left: FloatArray
    ) -> None:
        here, (scales, offsets) = slice(at, at + len(w)), self._grid.scales(data, len(w))
        stored = self._grid.shifts(data, len(w))
        shifts = np.zeros_like(scales) if stored is None else stored
        parts = lanes_of(scales), lanes_of(offsets), lanes_of(shifts)
        self._found.append((at, *parts))
        round_fours(
            self._factor.unit, self._factor.variances, at,
            self._inside(at, len(w))[::FOUR] // self._grid.group, target, w, *parts,
            self._values, self._halfway, self._own, self._choices[here], self._q[here], left, self._missed[here],
        )  # fmt: skip
        self._lose(at, 1, self._missed[here])

    def store(self, out: ByteArray, rounds: int) -> None:
        self._choices, self._q = self._choices[self._places], self._q[self._places]
        if rounds:
            self._descend(rounds)
        self._grid.store(out, np.ascontiguousarray(self._choices[:, : self._n].T))

    def _descend(self, rounds: int) -> None:
        found = sorted(self._found, key=lambda it: int(self._factor.columns[it[0]]))
        scales, offsets, shifts = (np.concatenate(parts) for parts in list(zip(*found, strict=True))[1:])
        p, fours = self._slopes(self._missed, self._width), np.array(self._grid.fours, np.int64)
        for _ in range(rounds):
            if not descend_fours(
                self._factor.gram, fours, self._grid.group, p, self._q, scales, offsets, shifts,
                self._values, self._halfway, self._own, self._choices,
            ):  # fmt: skip
                break


class _Points(Chosen):
    """Of a grid of points for several weights. They are chosen by units of columns (see `points.py`)."""

    def __init__(self, fmt: QuantFormat, factor: Factor, n: int, width: int, grid: PointGrid) -> None:
        super().__init__(fmt, factor, n, width)
        self._grid, k = grid, len(factor.variances)
        self._points = np.ascontiguousarray(grid.points, np.float32)
        self._size, self._unit = self._points.shape[1], kept_together(fmt)[1]
        self._count, (self._cells, self._reach) = len(self._points) // grid.books, cells_of(grid)
        self._choices = np.empty((k // self._size, width), np.uint16)
        self._signs = np.empty((k // self._unit, width), np.uint8)
        self._missed, self._q = np.empty((k, width), np.float32), np.empty((k, width), np.float32)
        self._found: list[tuple[int, FloatArray, FloatArray, ByteArray]] = []

    def round(
        self, at: int, data: ByteArray, best: FloatArray, target: FloatArray, w: FloatArray, left: FloatArray
    ) -> None:
        last, unit, scales = at + len(w), self._unit, lanes_of(self._grid.scales(data, len(w)))
        shifts, books = np.zeros_like(scales), np.zeros(scales.shape, np.uint8)
        if (stored := self._grid.shifts(data, len(w))) is not None:
            shifts = lanes_of(stored)
        if (their := self._grid.books_of(data, len(w))) is not None:
            books[:, : self._n] = their.T
        self._found.append((at, scales, shifts, books))
        round_points(
            self._factor.unit, self._factor.variances, at, self._inside(at, len(w))[::unit] // self._grid.group,
            target, w, scales, shifts, books, self._points, self._count, self._cells, self._reach,
            int(self._grid.even), int(self._grid.signed),
            self._choices[at // self._size : last // self._size], self._signs[at // unit : last // unit],
            self._q[at:last], left,
        )  # fmt: skip
        # The targets are now what was best for each unit, given all units before it.
        np.subtract(target, self._q[at:last], out=self._missed[at:last])
        self._lose(at, unit, self._missed[at:last])

    def store(self, out: ByteArray, rounds: int) -> None:
        units = np.argsort(self._factor.columns[:: self._unit])
        parts = (units[:, None] * (self._unit // self._size) + np.arange(self._unit // self._size)).reshape(
            -1
        )
        self._choices, self._signs = self._choices[parts], self._signs[units]
        self._q = self._q[self._places]
        if rounds:
            self._descend(rounds)
        choices = np.ascontiguousarray(self._choices[:, : self._n].T)
        signs = np.zeros((self._n, len(self._q) // _EIGHT), np.uint8)
        if not self._grid.signed:
            signs[:] = self._signs[:, : self._n].T
        self._grid.store(out, choices, signs)

    def _descend(self, rounds: int) -> None:
        found = sorted(self._found, key=lambda it: int(self._factor.columns[it[0]]))
        scales, shifts, books = (np.concatenate(parts) for parts in list(zip(*found, strict=True))[1:])
        p = self._slopes(self._missed, self._width)
        for _ in range(rounds):
            if not descend_points(
                self._factor.gram, p, self._q, scales, shifts, books, self._points, self._count,
                self._cells, self._reach, int(self._grid.even), int(self._grid.signed), self._choices, self._signs,
            ):  # fmt: skip
                break


def chosen_of(fmt: QuantFormat, factor: Factor, n: int, width: int) -> Chosen:
    """How a format's weights are chosen: by the grid that it has. n: rows; width: with those that fill tiles up"""
    match fmt.grid:
        case None:
            return Chosen(fmt, factor, n, width)
        case PointGrid() as points:
            return _Points(fmt, factor, n, width, points)
        case grid if grid.fours:
            return _Fours(fmt, factor, n, width, grid)
        case grid:
            return _Values(fmt, factor, n, width, grid)
