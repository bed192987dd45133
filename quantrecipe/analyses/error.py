"""error: how far the weights move, Σ (x - x̂)² / Σ x², whatever the inputs; needs no data.

Rows are encoded as they would be without an importance matrix. What needs one is encoded with 1 for every input.
What an error has along the weights counts more than the rest: see `squares`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from quantrecipe.api import QuantFormat, TensorAnalysis

if TYPE_CHECKING:
    from quantrecipe.api import DoubleArray, FloatArray

__all__ = ["Error"]


class Error(TensorAnalysis):
    """The squared error of the weights, relative to their squares."""

    name: ClassVar[str] = "error"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "relative squared error of the weights; needs no data"

    def row_losses(
        self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None
    ) -> tuple[DoubleArray, DoubleArray]:
        """rows: float32 (n, k) → (what is lost, Σ x²) of each row. `importance` is left aside."""
        import numpy as np  # whoever lists analyses doesn't run them

        from quantrecipe.analyses.squares import squared_losses

        ones = np.ones(rows.shape[1], np.float32) if fmt.spec.importance == "required" else None
        return squared_losses(rows, fmt, ones, None)
