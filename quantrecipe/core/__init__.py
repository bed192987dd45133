"""What formats are made of: kernels, arrays in and arrays out. Knows nothing of files and recipes.

Importing any of it doesn't import numba (see `jit.py`).
"""

from __future__ import annotations

from quantrecipe.core.cache import cache_folder
from quantrecipe.core.checked_rows import check_finite, decode_rows, encode_rows, float32_from_float64
from quantrecipe.core.half import f16_bits, f16_value
from quantrecipe.core.jit import DECODE, ENCODE, ENCODE_WEIGHTED, kernel
from quantrecipe.core.kernel_format import KernelFormat, Kernels

__all__ = [
    "DECODE",
    "ENCODE",
    "ENCODE_WEIGHTED",
    "KernelFormat",
    "Kernels",
    "cache_folder",
    "check_finite",
    "decode_rows",
    "encode_rows",
    "f16_bits",
    "f16_value",
    "float32_from_float64",
    "kernel",
]
