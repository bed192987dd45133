"""F16: IEEE 754 half precision, little-endian.

    1 weight → s eeeee mmmmmmmmmm (2 bytes)

Numbers round to the nearest, ties to even; beyond 65519 they become infinite, as in llama.cpp.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat, Kernels
from quantrecipe.core.half import f16_bytes_from_rows, rows_from_f16_bytes

__all__ = ["F16"]


class F16(KernelFormat):
    """16 bits, 11 of them precision."""

    spec = FormatSpec(
        name="F16",
        ggml_type=1,
        block=1,
        block_bytes=2,
        floats=(StoredFloat(kind="f16", name="value"),),
        error_bound=0.0003,
        fallback="F32",
        file_type=1,  # LLAMA_FTYPE_MOSTLY_F16
        summary="half precision: 11 bits of precision within ±65504",
    )
    kernels = Kernels(encode=f16_bytes_from_rows, decode=rows_from_f16_bytes)
