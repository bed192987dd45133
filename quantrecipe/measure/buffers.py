"""Buffers: memory that one thread uses again and again, as large as the largest piece that it has seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffers"]


class Buffers:
    """Of one thread. What a call returns is written over by the next of its kind."""

    def __init__(self) -> None:
        self._raw = np.empty(0, np.uint8)
        self._floats = np.empty(0, np.float32)

    def raw(self, rows: int, row_bytes: int) -> NDArray[np.uint8]:
        """A buffer of stored rows: uint8 (rows, row_bytes)."""
        if self._raw.size < rows * row_bytes:
            self._raw = np.empty(rows * row_bytes, np.uint8)
        return self._raw[: rows * row_bytes].reshape(rows, row_bytes)

    def floats(self, rows: int, cols: int) -> NDArray[np.float32]:
        """A buffer of weights: float32 (rows, cols)."""
        if self._floats.size < rows * cols:
            self._floats = np.empty(rows * cols, np.float32)
        return self._floats[: rows * cols].reshape(rows, cols)
