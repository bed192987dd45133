"""F16: IEEE 754 half precision, little-endian.

    1 weight → s eeeee mmmmmmmmmm (2 bytes)

Numbers round to the nearest, ties to even; beyond 65519 they become infinite, as in llama.cpp.
"""

from __future__ import annotations

from quantrecipe.core import Kernels
from quantrecipe.core.half import f16_bytes_from_rows, rows_from_f16_bytes

__all__ = ["KERNELS"]

KERNELS = Kernels(encode=f16_bytes_from_rows, decode=rows_from_f16_bytes)
