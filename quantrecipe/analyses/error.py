"""error: how far the weights move, Σ w (x - x̂)² / Σ w x², where w is the importance (1 without one).

The mean of w (x - x̂)² over the inputs that importance was measured on is, up to correlations between
inputs, the mean square of what a layer's outputs are off by; so tensors of any size and scale compare
by this number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from quantrecipe.api import Analysis, QuantFormat
from quantrecipe.errors import NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import FloatArray

__all__ = ["Error"]

_CHUNK_WEIGHTS = 1 << 20
"""Weights at a time: 4 MiB of float32, however long the tensor is."""


class Error(Analysis):
    """Weighted squared error, relative to the weighted square of the weights."""

    name: ClassVar[str] = "error"
    summary: ClassVar[str] = "importance-weighted squared error of the weights, relative"

    def score(self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None) -> float:
        """rows: float32 (n, k), importance: float32 (k,) → 0 where nothing is lost; 0 for a tensor of zeros.

        Where the weights are all zero and the format can't store that, the error itself is the score.
        """
        n, k = rows.shape
        step = max(1, _CHUNK_WEIGHTS // max(1, k))
        step = max(fmt.spec.rows_per_group, step - step % fmt.spec.rows_per_group)
        weight = None if importance is None else importance.astype(np.float64)
        error = square = 0.0
        for start in range(0, n, step):
            part = rows[start : start + step]
            exact = part.astype(np.float64)
            with np.errstate(invalid="ignore"):  # Inf - Inf: told below
                off = exact - fmt.decode(fmt.encode(part, importance), k)
            error += _sum_of_squares(off, weight)
            square += _sum_of_squares(exact, weight)
        score = error / square if square > 0.0 else error
        if not np.isfinite(score):
            raise NonFiniteError(
                f"the error of {fmt.spec.name} is not a number", "are there NaN or Inf weights?"
            )
        return float(score)


def _sum_of_squares(values: NDArray[np.float64], weight: NDArray[np.float64] | None) -> float:
    squares = np.square(values)
    if weight is not None:
        squares *= weight  # and not a product of matrices: what BLAS returns differs between machines
    return float(squares.sum())
