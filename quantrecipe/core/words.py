"""Four bytes as one little-endian number: what vectorised bit-unpacking starts from."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel

__all__ = ["get_word"]

U32 = np.uint32


@kernel
def get_word(data: Any, at: Any) -> Any:
    """The uint32 in four bytes from `at` on, which need no alignment."""
    low = U32(U32(data[at]) | U32(U32(data[at + 1]) << U32(8)))
    high = U32(U32(data[at + 2]) | U32(U32(data[at + 3]) << U32(8)))
    return U32(low | U32(high << U32(16)))
