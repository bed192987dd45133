"""imatrix: how far a layer's outputs move, Σ w (x - x̂)² / Σ w x², where w is the importance of each input.

Importance is the mean square of an input over the calibration text. Up to correlations between inputs, the sum is
the mean square of what the outputs are off by; so tensors of any size and scale compare by this number. What an
error has along the weights, where correlations matter most, counts more than the rest: see `squares`. Where a tensor
has no importance, every input counts the same.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, ClassVar, Self

from quantrecipe.api import QuantFormat, TensorAnalysis

if TYPE_CHECKING:
    from quantrecipe.api import DoubleArray, FloatArray
    from quantrecipe.tensor import TensorInfo

__all__ = ["Imatrix"]


class Imatrix(TensorAnalysis):
    """The squared error of a matrix's outputs, as far as its importance tells, relative to their squares."""

    name: ClassVar[str] = "imatrix"
    version: ClassVar[int] = 3
    summary: ClassVar[str] = "relative squared error of the outputs, by the importance matrix"

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
        """rows: float32 (n, k), importance: float32 (k,) → (what is lost, Σ w x²) of each row."""
        import numpy as np  # whoever lists analyses doesn't run them

        from quantrecipe.analyses.squares import ALONG, squared_losses

        used = importance
        if used is None and fmt.spec.importance == "required":
            used = np.ones(rows.shape[1], np.float32)
        along = ALONG if self._along is None else self._along
        return squared_losses(rows, fmt, used, importance, along=along)
