"""F32: IEEE 754 single precision, little-endian.

1 weight → s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm (4 bytes)
"""

from __future__ import annotations

from quantrecipe.core import Kernels
from quantrecipe.core.half import f32_bytes_from_rows, rows_from_f32_bytes

__all__ = ["KERNELS"]

KERNELS = Kernels(encode=f32_bytes_from_rows, decode=rows_from_f32_bytes)
