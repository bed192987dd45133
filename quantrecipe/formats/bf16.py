"""BF16: the upper half of a float32, little-endian.

    1 weight → s eeeeeeee mmmmmmm (2 bytes)

Numbers round to the nearest, ties to even, as in llama.cpp.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat, Kernels
from quantrecipe.core.half import bf16_bytes_from_rows, rows_from_bf16_bytes

__all__ = ["BF16"]


class BF16(KernelFormat):
    """16 bits, 8 of them precision: what most models are trained in."""

    spec = FormatSpec(
        name="BF16",
        ggml_type=30,
        block=1,
        block_bytes=2,
        floats=(StoredFloat(kind="bf16", name="value"),),
        error_bound=0.003,
        fallback="F32",
        file_type=32,  # LLAMA_FTYPE_MOSTLY_BF16
        summary="bfloat16: float32's range, 8 bits of precision",
    )
    kernels = Kernels(encode=bf16_bytes_from_rows, decode=rows_from_bf16_bytes)
