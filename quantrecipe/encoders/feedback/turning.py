"""Rows of weights ↔ columns side by side in memory, as feedback works with them: (n, k) ↔ (k, lanes).

Copied in squares, so that both sides stay in the first cache: three times as fast as NumPy's copy of a transposed view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.scalars import Bytes, Floats
from quantrecipe.encoders.feedback.products import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bytes_of_rows", "lanes_of", "rows_of"]

SQUARE = 16


@disjoint_kernel
def _turn(x: Floats, y: Floats) -> None:
    """y[c, r] = x[r, c], as far as both have it."""
    rows, columns = min(x.shape[0], y.shape[1]), min(x.shape[1], y.shape[0])
    for first in range(0, rows, SQUARE):
        last = min(first + SQUARE, rows)
        for begin in range(0, columns, SQUARE):
            end = min(begin + SQUARE, columns)
            for c in range(begin, end):
                for r in range(first, last):
                    y[c, r] = x[r, c]


@kernel("void(Array(float32, 2, 'C', True), float32[:,::1])")
def _turn_floats(x: Floats, y: Floats) -> None:
    _turn(x, y)


@kernel("void(Array(uint8, 2, 'C', True), uint8[:,::1])")
def _turn_bytes(x: Bytes, y: Bytes) -> None:
    _turn(x, y)


def lanes_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (n, k) → (k, lanes), filled up with rows of zeros, so that tiles are full."""
    n, k = rows.shape
    lanes = -(-n // LANES) * LANES
    found = np.empty((k, lanes), np.float32)
    found[:, n:] = 0
    _turn_floats(np.ascontiguousarray(rows, np.float32), found)
    return found


def rows_of(columns: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """float32 (k, lanes), C-contiguous → the first n rows: (n, k)."""
    found = np.empty((n, len(columns)), np.float32)
    _turn_floats(columns, found)
    return found


def bytes_of_rows(columns: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """The same of bytes."""
    found = np.empty((n, len(columns)), np.uint8)
    _turn_bytes(columns, found)
    return found
