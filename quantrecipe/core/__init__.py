"""What formats are made of: kernels, arrays in and arrays out. Knows nothing of files and recipes.

Importing any of it doesn't import numba (see `jit.py`), and importing the package imports none of its modules: a plan
needs no kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantrecipe.core.cache import cache_folder
    from quantrecipe.core.checked_rows import check_finite, decode_rows, encode_rows, float32_from_float64
    from quantrecipe.core.format_table import read_formats
    from quantrecipe.core.half import f16_bits, f16_value
    from quantrecipe.core.jit import (
        DECODE,
        ENCODE,
        ENCODE_WEIGHTED,
        GRID_PUT,
        GRID_SCALES,
        GRID_STEPS,
        kernel,
    )
    from quantrecipe.core.kernel_format import GridKernels, KernelFormat, Kernels, PointKernels

__all__ = [
    "DECODE",
    "ENCODE",
    "ENCODE_WEIGHTED",
    "GRID_PUT",
    "GRID_SCALES",
    "GRID_STEPS",
    "GridKernels",
    "KernelFormat",
    "Kernels",
    "PointKernels",
    "cache_folder",
    "check_finite",
    "decode_rows",
    "encode_rows",
    "f16_bits",
    "f16_value",
    "float32_from_float64",
    "kernel",
    "read_formats",
]

_HOMES = {
    "cache": ("cache_folder",),
    "checked_rows": ("check_finite", "decode_rows", "encode_rows", "float32_from_float64"),
    "format_table": ("read_formats",),
    "half": ("f16_bits", "f16_value"),
    "jit": ("DECODE", "ENCODE", "ENCODE_WEIGHTED", "GRID_PUT", "GRID_SCALES", "GRID_STEPS", "kernel"),
    "kernel_format": ("GridKernels", "KernelFormat", "Kernels", "PointKernels"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"quantrecipe.core.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
