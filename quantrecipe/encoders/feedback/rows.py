"""encode_rows: rows of weights → bytes of a format, with error feedback. A row's bytes depend on nothing but the row.

panel   up to 256 rows of weights, whose columns lie side by side in memory: (k, rows)
block   the format's own; a format with numbers for whole rows has one block
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.checked_rows import check_finite
from quantrecipe.encoders.feedback.descent import descend, slopes
from quantrecipe.encoders.feedback.rounding import carry_on, round_block, settle
from quantrecipe.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray, Grid, QuantFormat
    from quantrecipe.encoders.feedback.factor import Factor

__all__ = ["encode_rows"]

PANEL = 256
"""Rows of weights at a time: each number of the factor that is loaded serves all of them."""
LANES = 16
"""Rows are filled up to a multiple of this with zeros, so that vectors are full."""
TOGETHER = 256
"""Columns whose errors go to the rest of the matrix together, where blocks are smaller."""


def encode_rows(
    rows: FloatArray, fmt: QuantFormat, factor: Factor, *, rounds: int, out: ByteArray | None = None
) -> ByteArray:
    """rows: float32 (n, k) → uint8 (n, row_bytes(k)), written to `out` if given.

    FormatError for columns that don't divide, or aren't those of the factor; NonFiniteError for NaN and Inf.
    """
    spec, (n, k) = fmt.spec, rows.shape
    if k != len(factor.variances):
        raise FormatError(f"the Gram matrix is of {len(factor.variances)} inputs, and a row has {k} weights")
    out = np.empty((n, spec.row_bytes(k)), np.uint8) if out is None else out
    step = max(PANEL // spec.rows_per_group, 1) * spec.rows_per_group
    for start in range(0, n, step):
        panel = np.require(rows[start : start + step], np.float32, ["C", "A"])
        check_finite(panel, first_row=start)
        _encode_panel(panel, fmt, factor, rounds, out[start : start + step])
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class _Values:
    """A grid's values in ascending order, as kernels take them.

    halfway: between each two of them
    even:    1 where they are whole numbers without gaps, else 0
    choice:  by number in this order, what the format calls it
    """

    values: FloatArray
    halfway: FloatArray
    even: int
    choice: ByteArray

    @classmethod
    def of(cls, grid: Grid) -> _Values:
        values, first = np.unique(np.asarray(grid.values, np.float32), return_index=True)
        even = bool((np.diff(values) == 1).all() and (values == np.rint(values)).all())
        halfway = (values[:-1] + values[1:]) / np.float32(2)
        return cls(values=values, halfway=halfway, even=int(even), choice=first.astype(np.uint8))


def _encode_panel(rows: FloatArray, fmt: QuantFormat, factor: Factor, rounds: int, out: ByteArray) -> None:
    n, k = rows.shape
    width = -(-n // LANES) * LANES
    grid, unit = fmt.grid, factor.unit.reshape(-1)
    values = None if grid is None else _Values.of(grid)
    w = _columns(rows, width)
    target, missed = w.copy(), np.empty((k, width), np.float32)
    choices = np.empty((k, width), np.uint8)
    by_row = fmt.spec.row_meta_bytes > 0 or fmt.spec.rows_per_group > 1
    block = k if by_row else fmt.spec.block
    nbytes = fmt.spec.row_bytes(block)
    together = -(-TOGETHER // block) * block
    found: list[tuple[FloatArray, FloatArray]] = []
    for first in range(0, k, together):
        end = min(first + together, k)
        left = np.empty((end - first, width), np.float32)
        for at in range(first, end, block):
            here, last = slice(at, at + block), at + block
            mine = left[at - first : last - first]
            best = target[here].copy()
            settle(unit, k, at, best, w[here], mine)
            data = fmt.encode(np.ascontiguousarray(best[:, :n].T), factor.variances[here])
            out[:, at // block * nbytes : last // block * nbytes] = data
            if grid is None or values is None:
                np.subtract(w[here], _columns(fmt.decode(data, block), width), out=mine)
            else:
                scales, offsets = grid.scales(data, block)
                found.append((scales, offsets))
                round_block(
                    unit, k, at, target[here], w[here], _columns(scales, width), _columns(offsets, width),
                    values.values, values.halfway, values.even, choices[here], mine, missed[here],
                )  # fmt: skip
            if last < end:
                carry_on(unit, k, at, last, mine, target[last:end])
        if end < k:
            carry_on(unit, k, first, end, left, target[end:])
    if grid is None or values is None:
        return
    chosen = np.ascontiguousarray(choices[:, :n].T)
    if rounds:
        scales, offsets = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        _descend(factor, missed, n, values, scales, offsets, grid.group, chosen, rounds)
    grid.store(out, np.take(values.choice, chosen))


def _descend(
    factor: Factor,
    missed: FloatArray,
    n: int,
    values: _Values,
    scales: FloatArray,
    offsets: FloatArray,
    group: int,
    choices: ByteArray,
    rounds: int,
) -> None:
    """Rounds of descent on choices (n, k), which are changed. Ends where a round changes nothing."""
    missed *= factor.variances[:, None]
    columns = np.zeros_like(missed)
    slopes(factor.unit.reshape(-1), missed, columns)
    p = np.ascontiguousarray(columns[:, :n].T)
    q = np.repeat(scales, group, axis=1) * values.values[choices] + np.repeat(offsets, group, axis=1)
    inverse = np.float32(1) / np.diagonal(factor.gram)
    for _ in range(rounds):
        if not descend(
            factor.gram, inverse, group, p, q, scales, offsets,
            values.values, values.halfway, values.even, choices,
        ):  # fmt: skip
            break


def _columns(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """(n, k) → (k, width), filled up with zeros."""
    found = np.zeros((rows.shape[1], width), np.float32)
    found[:, : len(rows)] = rows.T
    return found
