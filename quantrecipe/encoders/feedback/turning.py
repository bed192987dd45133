"""Rows of weights ↔ columns side by side in memory, as feedback works with them: (n, k) ↔ (k, lanes).

Copied in squares, so that both sides stay in the first cache: three times as fast as NumPy's copy of a transposed view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.scalars import Bytes, Floats, Ints
from quantrecipe.encoders.feedback.products import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bytes_of_rows", "lanes_of", "rows_of"]

SQUARE = 16


@disjoint_kernel
def _take(x: Floats, at: Ints, y: Floats) -> None:
    """y[c, r] = x[r, at[c]] of all rows of x."""
    for first in range(0, x.shape[0], SQUARE):
        last = min(first + SQUARE, x.shape[0])
        for c in range(y.shape[0]):
            column = place(at[c])
            for r in range(first, last):
                y[c, r] = x[r, column]


@disjoint_kernel
def _give(x: Floats, at: Ints, y: Floats) -> None:
    """y[r, c] = x[at[c], r] of all rows of y."""
    for begin in range(0, y.shape[1], SQUARE):
        end = min(begin + SQUARE, y.shape[1])
        for first in range(0, y.shape[0], SQUARE):
            for r in range(first, min(first + SQUARE, y.shape[0])):
                for c in range(begin, end):
                    y[r, c] = x[place(at[c]), r]


@kernel("void(Array(float32, 2, 'C', True), int64[::1], float32[:,::1])")
def _take_floats(x: Floats, at: Ints, y: Floats) -> None:
    _take(x, at, y)


@kernel("void(Array(float32, 2, 'C', True), int64[::1], float32[:,::1])")
def _give_floats(x: Floats, at: Ints, y: Floats) -> None:
    _give(x, at, y)


@kernel("void(Array(uint8, 2, 'C', True), int64[::1], uint8[:,::1])")
def _give_bytes(x: Bytes, at: Ints, y: Bytes) -> None:
    _give(x, at, y)


def lanes_of(rows: NDArray[np.float32], columns: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """float32 (n, k) → (k, lanes), filled up with rows of zeros, so that tiles are full. columns: their order there"""
    n, k = rows.shape
    lanes = -(-n // LANES) * LANES
    found = np.empty((k, lanes), np.float32)
    found[:, n:] = 0
    _take_floats(np.ascontiguousarray(rows, np.float32), np.arange(k) if columns is None else columns, found)
    return found


def rows_of(columns: NDArray[np.float32], n: int, at: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """float32 (k, lanes), C-contiguous → the first n rows: (n, k). at: where each column is found"""
    found = np.empty((n, len(columns)), np.float32)
    _give_floats(columns, np.arange(len(columns)) if at is None else at, found)
    return found


def bytes_of_rows(
    columns: NDArray[np.uint8], n: int, at: NDArray[np.int64] | None = None
) -> NDArray[np.uint8]:
    """The same of bytes."""
    found = np.empty((n, len(columns)), np.uint8)
    _give_bytes(columns, np.arange(len(columns)) if at is None else at, found)
    return found
