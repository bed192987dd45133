"""Which rows come out better without feedback. None should: rows of models don't, but rows of a few large weights do.

What a row loses is a sum of squares (see `factor.py`), one for each column:

    R H Rᵀ = Σ D_j m_j²        m_j = R_j + Σ_{i<j} R_i N_ij, what column j misses its target by

The last columns lose most, since they bear what all columns before them have done wrong. So what the format makes of
the row by itself is followed from the right, until it has lost as much as feedback has in all. For rows of models that
is after 5 to 30 % of the columns (from the left it would be after 80 %); rows that are left over are computed to their
end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.scalars import ZERO, Float, Floats, Int
from quantrecipe.encoders.feedback.products import LANES, add_down, fma, where
from quantrecipe.encoders.feedback.turning import lanes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import ByteArray, FloatArray, QuantFormat
    from quantrecipe.encoders.feedback.factor import Factor

__all__ = ["add_lost", "keep_better"]

_STRETCH = 64
"""Columns after which rows that are decided are left out."""


@disjoint_kernel
def _square(d: Float, m: Floats, sum_: Floats) -> None:
    for r in range(m.size):
        sum_[r] = fma(d * m[r], m[r], sum_[r])


@disjoint_kernel
def _carry(factor: Float, x: Floats, y: Floats) -> None:
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@kernel("void(float32[::1], float32[::1], int64, int64, float32[:,::1], float32[::1])")
def add_lost(unit: Floats, variances: Floats, first: Int, group: Int, off: Floats, sums: Floats) -> None:
    """What the columns first, first + 1, … lose, added to sums (n,).

    off: float32 (b, n), changed on the way. Of each group of columns, what was chosen less what would be best if the
         group's columns were met exactly; errors within the group aren't in that yet. Groups of one: what was missed
    """
    for c in range(off.shape[0] - 1, -1, -1):
        for earlier in range(c // group * group, c):
            _carry(unit[where(first + earlier, first + c)], off[earlier], off[c])
        _square(variances[first + c], off[c], sums)


@kernel("void(float32[::1], float32[::1], int64, float32[:,::1], float32[:,::1], float32[::1])")
def _add_stretch(
    unit: Floats, variances: Floats, first: Int, left: Floats, missed: Floats, sums: Floats
) -> None:
    """What the columns first, first + 1, … lose, of rows R = left (k, n). missed (b, n): room."""
    last = first + missed.shape[0]
    missed[:] = ZERO
    # N has ones on its diagonal and zeros below, so the stretch itself needs nothing of its own.
    add_down(unit, 0, left[:last], first, missed)
    for c in range(missed.shape[0]):
        _square(variances[first + c], missed[c], sums)


def keep_better(
    rows: FloatArray,
    fmt: QuantFormat,
    factor: Factor,
    importance: FloatArray | None,
    most: FloatArray,
    out: ByteArray,
) -> None:
    """Let rows of `out` be as the format makes them by itself, where that loses less.

    rows: float32 (n, k); out: uint8 (n, row_bytes(k)), made with feedback. Rows that are stored together go together
    most: float32 (n,): no row of out loses more than this, but one in which this isn't a number
    """
    plain, group = fmt.encode(rows, importance), fmt.spec.rows_per_group
    open_, sums = _undecided(factor, _left(factor, rows, fmt, plain), most, group)
    if not open_.size:
        return
    fed = _lost(factor, _left(factor, rows[open_], fmt, out[open_]))[: open_.size]
    worse = open_[~(_together(fed, group) <= _together(sums, group))]
    out[worse] = plain[worse]


def _undecided(
    factor: Factor, left: FloatArray, most: FloatArray, group: int
) -> tuple[NDArray[np.intp], FloatArray]:
    """Numbers of rows that lose less than `most`, and what they lose. left: float32 (k, lanes)."""
    rows, sums = np.arange(most.size), np.zeros(left.shape[1], np.float32)
    for first in _stretches(len(left)):
        _add(factor, first, left, sums)
        n = rows.size
        more = ~(_together(sums[:n], group) >= _together(most[rows], group))
        # Leaving decided rows out copies the others, so it has to be worth it.
        if more.sum() > n // 2 and first > 0:
            continue
        rows, kept = rows[more], sums[:n][more]
        if not rows.size:
            break
        left = _kept(left, np.flatnonzero(more))
        sums = np.zeros(left.shape[1], np.float32)
        sums[: rows.size] = kept
    return rows, sums[: rows.size]


def _lost(factor: Factor, left: FloatArray) -> FloatArray:
    """R H Rᵀ, float32 (lanes,), of what is left of weights: float32 (k, lanes)."""
    sums = np.zeros(left.shape[1], np.float32)
    for first in _stretches(len(left)):
        _add(factor, first, left, sums)
    return sums


def _stretches(k: int) -> range:
    """The first column of each, the last stretch first."""
    return range((k - 1) // _STRETCH * _STRETCH, -1, -_STRETCH)


def _add(factor: Factor, first: int, left: FloatArray, sums: FloatArray) -> None:
    k = len(left)
    missed = np.empty((min(_STRETCH, k - first), left.shape[1]), np.float32)
    _add_stretch(factor.unit, factor.variances, first, left, missed, sums)


def _kept(left: FloatArray, rows: NDArray[np.intp]) -> FloatArray:
    """left (k, lanes) of these rows alone."""
    found = np.zeros((len(left), -(-rows.size // LANES) * LANES), np.float32)
    np.take(left, rows, axis=1, out=found[:, : rows.size], mode="clip")
    return found


def _left(factor: Factor, rows: FloatArray, fmt: QuantFormat, data: ByteArray) -> FloatArray:
    """What rounding adds, in the factor's order of columns: float32 (k, lanes)."""
    return lanes_of(rows - fmt.decode(data, rows.shape[1]), factor.columns)


def _together(sums: FloatArray, group: int) -> FloatArray:
    """The sum of each group of rows, for each of its rows."""
    if group == 1:
        return sums
    whole: FloatArray = np.repeat(sums.reshape(-1, group).sum(axis=1), group)
    return whole
