"""Whether any number of a matrix is NaN or Inf, at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel

__all__ = ["all_finite"]

EXPONENT = np.uint32(0x7F800000)  # all ones in NaN and Inf, and in no other float32


@kernel("boolean(Array(float32, 2, 'C', True))")
def all_finite(rows: Any) -> Any:
    """rows float32 (n, k) → bool."""
    bits = rows.reshape(rows.size).view(np.uint32)
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = max(largest, np.uint32(bits[i] & EXPONENT))
    return largest < EXPONENT
