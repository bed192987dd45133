"""squared_losses: what encoding and decoding does to rows, in weighted squares; for analyses that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.errors import NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import DoubleArray, FloatArray

__all__ = ["squared_losses"]

_CHUNK_WEIGHTS = 1 << 18
"""Weights at a time: 2 MiB of float64, near the caches, however many rows there are."""


def squared_losses(
    rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None, weight: FloatArray | None
) -> tuple[DoubleArray, DoubleArray]:
    """(Σ w (x - x̂)², Σ w x²) of each row, float64 (n,); encoded with `importance`, weighted with `weight`.

    A format with a companion tensor gets the rows divided by its factor, as when a file is written.
    """
    n, k = rows.shape
    together = fmt.spec.rows_per_group
    step = max(together, _CHUNK_WEIGHTS // max(1, k) // together * together)
    squares = None if weight is None else weight.astype(np.float64)
    factor = None
    if fmt.spec.companion is not None:
        factor = np.float32(fmt.factor(float(np.abs(rows).max(initial=0))))
    lost, whole = np.empty(n), np.empty(n)
    for start in range(0, n, step):
        part = rows[start : start + step]
        decoded = fmt.decode(fmt.encode(part if factor is None else part / factor, importance), k)
        exact = part.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # Inf - Inf: told below
            off = exact - (decoded if factor is None else decoded * factor)
            lost[start : start + step] = _sums(off, squares)
            whole[start : start + step] = _sums(exact, squares)
    if not (np.isfinite(lost).all() and np.isfinite(whole).all()):
        raise NonFiniteError(f"the error of {fmt.spec.name} is not a number", "are there NaN or Inf weights?")
    return lost, whole


def _sums(values: NDArray[np.float64], weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
    squares = np.square(values)
    if weight is not None:
        squares *= weight  # and not a product of matrices: what BLAS returns differs between machines
    sums: NDArray[np.float64] = squares.sum(axis=1)
    return sums
