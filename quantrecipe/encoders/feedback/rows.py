"""encode_rows: rows of weights → bytes of a format, with error feedback. A row's bytes depend on nothing but the row.

panel   up to 256 rows of weights, whose columns lie side by side in memory: (k, rows)
block   the format's own; a format with numbers for whole rows has one block
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.checked_rows import check_finite
from quantrecipe.encoders.feedback.choice import keep_better
from quantrecipe.encoders.feedback.chosen import chosen_of
from quantrecipe.encoders.feedback.order import keeps_together, kept_together
from quantrecipe.encoders.feedback.rounding import carry_on, settle
from quantrecipe.encoders.feedback.turning import lanes_of, rows_of
from quantrecipe.errors import FormatError

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray, QuantFormat
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
        raise FormatError(
            f"the factor's order of columns takes blocks of {spec.name} apart", "prepare it for this format"
        )
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
    chosen = chosen_of(fmt, factor, n, width)
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
