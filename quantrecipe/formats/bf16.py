"""BF16: the upper half of a float32, little-endian.

    1 weight → s eeeeeeee mmmmmmm (2 bytes)

Numbers round to the nearest, ties to even, as in llama.cpp.
"""

from __future__ import annotations

from quantrecipe.core import Kernels
from quantrecipe.core.half import bf16_bytes_from_rows, rows_from_bf16_bytes

__all__ = ["KERNELS"]

KERNELS = Kernels(encode=bf16_bytes_from_rows, decode=rows_from_bf16_bytes)
