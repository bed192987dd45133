"""imatrix: how far a layer's outputs move, Σ w (x - x̂)² / Σ w x², where w is the importance of each input.

Importance is the mean square of an input over the calibration text. Up to correlations between inputs, the sum is
the mean square of what the outputs are off by; so tensors of any size and scale compare by this number. What an
error has along the weights, where correlations matter most, counts more than the rest: see `squares`. Where a tensor
has no importance, every input counts the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from quantrecipe.api import QuantFormat, TensorAnalysis

if TYPE_CHECKING:
    from quantrecipe.api import DoubleArray, FloatArray

__all__ = ["Imatrix"]


class Imatrix(TensorAnalysis):
    """The squared error of a matrix's outputs, as far as its importance tells, relative to their squares."""

    name: ClassVar[str] = "imatrix"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "relative squared error of the outputs, by the importance matrix"

    def row_losses(
        self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None
    ) -> tuple[DoubleArray, DoubleArray]:
        """rows: float32 (n, k), importance: float32 (k,) → (what is lost, Σ w x²) of each row."""
        import numpy as np  # whoever lists analyses doesn't run them

        from quantrecipe.analyses.squares import squared_losses

        used = importance
        if used is None and fmt.spec.importance == "required":
            used = np.ones(rows.shape[1], np.float32)
        return squared_losses(rows, fmt, used, importance)
