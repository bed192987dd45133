"""encode_rows: rows of weights → bytes of a format, with error feedback. A row's bytes depend on nothing but the row.

panel   up to 256 rows of weights, whose columns lie side by side in memory: (k, rows)
block   the format's own; a format with numbers for whole rows has one block
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import PointGrid
from quantrecipe.core.checked_rows import check_finite
from quantrecipe.encoders.feedback.choice import add_lost, keep_better
from quantrecipe.encoders.feedback.descent import descend, slopes, stand
from quantrecipe.encoders.feedback.order import keeps_together, kept_together
from quantrecipe.encoders.feedback.points import EIGHT, descend_points, round_points
from quantrecipe.encoders.feedback.rounding import carry_on, round_block, settle
from quantrecipe.encoders.feedback.turning import bytes_of_rows, lanes_of, rows_of
from quantrecipe.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray, Grid, QuantFormat
    from quantrecipe.encoders.feedback.factor import Factor

__all__ = ["encode_rows"]

PANEL = 256
"""Rows of weights at a time: each number of the factor that is loaded serves all of them."""
TOGETHER = 256
"""Columns whose errors go to the rest of the matrix together, where blocks are smaller."""


def encode_rows(
    rows: FloatArray,
    fmt: QuantFormat,
    factor: Factor,
    *,
    rounds: int,
    importance: FloatArray | None = None,
    out: ByteArray | None = None,
) -> ByteArray:
    """rows: float32 (n, k) → uint8 (n, row_bytes(k)), written to `out` if given.

    importance: what the format is given where it makes a row by itself, since that loses less; by default the diagonal
                of the Gram matrix
    FormatError for columns that don't divide, or aren't those of the factor; NonFiniteError for NaN and Inf.
    """
    spec, (n, k) = fmt.spec, rows.shape
    if k != len(factor.variances):
        raise FormatError(f"the Gram matrix is of {len(factor.variances)} inputs, and a row has {k} weights")
    out = np.empty((n, spec.row_bytes(k)), np.uint8) if out is None else out
    if not keeps_together(factor.columns, *kept_together(fmt)):
        raise FormatError(f"the factor's order of columns takes blocks of {spec.name} apart")
    if importance is None:
        importance = np.diagonal(factor.gram) - np.float32(factor.damping)
    step = max(PANEL // spec.rows_per_group, 1) * spec.rows_per_group
    for start in range(0, n, step):
        panel = np.require(rows[start : start + step], np.float32, ["C", "A"])
        check_finite(panel, first_row=start)
        made = out[start : start + step]
        with np.errstate(over="ignore", invalid="ignore"):  # of rows that are given up
            most = _encode_panel(panel, fmt, factor, rounds, made)
            keep_better(panel, fmt, factor, importance, most, made)
    return out


def _encode_panel(
    rows: FloatArray, fmt: QuantFormat, factor: Factor, rounds: int, out: ByteArray
) -> FloatArray:
    """Write rows with feedback to `out`; what each of them loses at most, float32 (n,)."""
    n, k = rows.shape
    unit, columns = factor.unit, factor.columns
    w = lanes_of(rows, columns)
    width = w.shape[1]
    target = w.copy()
    block = kept_together(fmt)[0] or k
    nbytes = fmt.spec.row_bytes(block)
    chosen = _chosen(fmt, factor, n, width)
    together = -(-TOGETHER // block) * block
    for first in range(0, k, together):
        end = min(first + together, k)
        left = np.empty((end - first, width), np.float32)
        for at in range(first, end, block):
            here, last = slice(at, at + block), at + block
            mine = left[at - first : last - first]
            best = target[here].copy()
            settle(unit, at, best, w[here], mine)
            chosen.give_up(best)
            # The format gets the block's columns in their own order, and its bytes go to their own place.
            number = int(columns[at]) // block
            own = np.argsort(columns[here])
            data = fmt.encode(rows_of(best, n, own), factor.variances[here][own])
            out[:, number * nbytes : (number + 1) * nbytes] = data
            chosen.round(at, data, best, target[here], w[here], mine)
            if last < end:
                carry_on(unit, at, last, mine, target[last:end])
        if end < k:
            carry_on(unit, first, end, left, target[end:])
    chosen.store(out, rounds)
    return chosen.lost[:n]


class _Decoded:
    """Of a format without a grid: a block is what its encoder made of it.

    lost: what rows lose so far, before any descent: float32 (lanes,)
    _own: where each column stands in the order of rounding, intp (k,)
    """

    def __init__(self, fmt: QuantFormat, factor: Factor, n: int, width: int) -> None:
        self._fmt, self._factor, self._n, self._width = fmt, factor, n, width
        self.lost = np.zeros(width, np.float32)
        self._own = np.argsort(factor.columns)

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
        return rows_of(columns, n, self._own)

    def store(self, out: ByteArray, rounds: int) -> None:
        """Write what was chosen for all blocks to the rows' bytes, which have the scales."""


class _Values(_Decoded):
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
        chosen = bytes_of_rows(self._choices, self._n, self._own)
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


class _Points(_Decoded):
    """Of a grid of points for four or eight weights."""

    def __init__(self, fmt: QuantFormat, factor: Factor, n: int, width: int, grid: PointGrid) -> None:
        super().__init__(fmt, factor, n, width)
        self._grid, k = grid, len(factor.variances)
        self._size = grid.points.shape[1]
        self._choices = np.empty((k // self._size, width), np.uint16)
        self._signs = np.empty((k // EIGHT, width), np.uint8)
        self._missed, self._q = np.empty((k, width), np.float32), np.empty((k, width), np.float32)
        self._found: list[tuple[int, FloatArray, FloatArray]] = []

    def round(
        self, at: int, data: ByteArray, best: FloatArray, target: FloatArray, w: FloatArray, left: FloatArray
    ) -> None:
        last, scales = at + len(w), lanes_of(self._grid.scales(data, len(w)))
        stored = self._grid.shifts(data, len(w))
        shifts = np.zeros_like(scales) if stored is None else lanes_of(stored)
        self._found.append((at, scales, shifts))
        round_points(
            self._factor.unit, self._factor.variances, at, self._inside(at, len(w))[::EIGHT] // self._grid.group,
            target, w, scales, shifts,
            self._grid.points, int(self._grid.even), int(self._grid.signed),
            self._choices[at // self._size : last // self._size], self._signs[at // EIGHT : last // EIGHT],
            self._q[at:last], left,
        )  # fmt: skip
        # The targets are now what was best for each eight, given all eights before it.
        np.subtract(target, self._q[at:last], out=self._missed[at:last])
        self._lose(at, EIGHT, self._missed[at:last])

    def store(self, out: ByteArray, rounds: int) -> None:
        eights = np.argsort(self._factor.columns[::EIGHT])
        parts = (eights[:, None] * (EIGHT // self._size) + np.arange(EIGHT // self._size)).reshape(-1)
        self._choices, self._signs, self._q = self._choices[parts], self._signs[eights], self._q[self._own]
        if rounds:
            self._descend(rounds)
        choices, signs = (np.ascontiguousarray(it[:, : self._n].T) for it in (self._choices, self._signs))
        self._grid.store(out, choices, signs)

    def _descend(self, rounds: int) -> None:
        found = sorted(self._found, key=lambda it: int(self._factor.columns[it[0]]))
        scales, shifts = (np.concatenate(parts) for parts in list(zip(*found, strict=True))[1:])
        p = self._slopes(self._missed, self._width)
        for _ in range(rounds):
            if not descend_points(
                self._factor.gram, p, self._q, scales, shifts, self._grid.points,
                int(self._grid.even), int(self._grid.signed), self._choices, self._signs,
            ):  # fmt: skip
                break


def _chosen(fmt: QuantFormat, factor: Factor, n: int, width: int) -> _Decoded:
    """How a format's weights are chosen: by the grid that it has."""
    match fmt.grid:
        case None:
            return _Decoded(fmt, factor, n, width)
        case PointGrid() as points:
            return _Points(fmt, factor, n, width, points)
        case grid:
            return _Values(fmt, factor, n, width, grid)
