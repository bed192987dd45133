"""error: how far the weights move, Σ (x - x̂)² / Σ x², whatever the inputs; needs no data.

Rows are encoded as they would be without an importance matrix. What needs one is encoded with 1 for every input.
What an error has along the weights counts more than the rest: see `squares`.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, ClassVar, Self

from quantrecipe.api import QuantFormat, TensorAnalysis

if TYPE_CHECKING:
    from quantrecipe.api import DoubleArray, FloatArray
    from quantrecipe.tensor import TensorInfo

__all__ = ["Error"]


class Error(TensorAnalysis):
    """The squared error of the weights, relative to their squares."""

    name: ClassVar[str] = "error"
    version: ClassVar[int] = 3
    summary: ClassVar[str] = "relative squared error of the weights; needs no data"

    def __init__(self, along: float | None = None) -> None:
        """along: what the part along the weights counts; None for what it counts in layers."""
        self._along = along

    def for_tensor(self, tensor: TensorInfo) -> Self:
        """Itself for tensors in layers; head and embeddings are counted in another way, see `squares`."""
        from quantrecipe.analyses.squares import along_of

        other = copy(self)
        other._along = along_of(tensor)
        return other

    def row_losses(
        self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None
    ) -> tuple[DoubleArray, DoubleArray]:
        """rows: float32 (n, k) → (what is lost, Σ x²) of each row. `importance` is left aside."""
        import numpy as np  # whoever lists analyses doesn't run them

        from quantrecipe.analyses.squares import ALONG, squared_losses

        ones = np.ones(rows.shape[1], np.float32) if fmt.spec.importance == "required" else None
        along = ALONG if self._along is None else self._along
        return squared_losses(rows, fmt, ones, None, along=along)
