"""Some bytes as one little-endian number: what packing and unpacking of single bits start from."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import U32

__all__ = ["BIT_OF_EACH_BYTE", "EACH_BYTE", "LOWER_HALVES", "get_word"]

EACH_BYTE = np.uint64(0x0101010101010101)
"""The lowest bit of each of eight bytes."""
LOWER_HALVES = np.uint64(0x0F0F0F0F0F0F0F0F)
"""The lower four bits of each of eight bytes."""
BIT_OF_EACH_BYTE = np.uint64(0x0102040810204080)
"""Times eight bytes of 0 or 1: the highest byte of the product has the c-th of them in bit c."""


@kernel
def get_word(data: Any, at: Any) -> Any:
    """The uint32 in four bytes from `at` on, which need no alignment."""
    low = U32(U32(data[at]) | U32(U32(data[at + 1]) << U32(8)))
    high = U32(U32(data[at + 2]) | U32(U32(data[at + 3]) << U32(8)))
    return U32(low | U32(high << U32(16)))
