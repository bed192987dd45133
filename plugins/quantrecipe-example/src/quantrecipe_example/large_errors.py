"""large_errors: Σ (x - x̂)⁴ / Σ x⁴, so that a few large errors weigh more than many small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from quantrecipe.api import QuantFormat, TensorAnalysis

if TYPE_CHECKING:
    from quantrecipe.api import DoubleArray, FloatArray

__all__ = ["LargeErrors"]


class LargeErrors(TensorAnalysis):
    """Fourth powers of what each weight is off by, relative to those of the weights."""

    name: ClassVar[str] = "large_errors"
    summary: ClassVar[str] = "fourth power of the error: a few large errors weigh more than many small ones"

    def row_losses(
        self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None
    ) -> tuple[DoubleArray, DoubleArray]:
        back = fmt.decode(fmt.encode(rows, importance), rows.shape[1])
        whole = rows.astype(np.float64)
        return ((whole - back) ** 4).sum(axis=1), (whole**4).sum(axis=1)
