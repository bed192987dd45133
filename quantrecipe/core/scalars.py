"""The numbers that kernels compute with, under the short names of ggml's authors, and what kernels' arguments are.

    from quantrecipe.core.scalars import F32, U8, Bytes, Floats, Int

    @kernel
    def halve(x: Floats, first: Int) -> None: ...

numba follows numpy's rules: float32 times float32 is float32, but a Python float would make the product a double, and
two integers make an int64. So every constant says its type, and so does every integer that has to stay short.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "F32", "HALF", "I8", "I32", "I64", "INF", "ONE", "TWO", "U8", "U16", "U32", "U64", "ZERO",
    "Bytes", "Float", "Floats", "Int", "Ints", "Tables",
]  # fmt: skip

F32 = np.float32
I8, I32, I64 = np.int8, np.int32, np.int64
U8, U16, U32, U64 = np.uint8, np.uint16, np.uint32, np.uint64

ZERO, HALF, ONE, TWO, INF = F32(0), F32(0.5), F32(1), F32(2), F32(np.inf)

# What a kernel is given. numba finds the exact types out at the call; mypy can't follow its arithmetic, in which an
# int32 or an int64 comes of the same expression, so to mypy all of them are Any.
Float = Any
"""One float32."""
Floats = Any
"""An array of float32: weights, or a workspace."""
Int = Any
"""One integer: an index, a count, the bits of a float."""
Ints = Any
"""An array of integers of more than a byte."""
Bytes = Any
"""An array of uint8: what is stored, or one small integer for each weight."""
Tables = Any
"""Several arrays, as a tuple: a grid, or room to work in."""
