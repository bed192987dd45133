"""Q4_1: a scale and a minimum for 32 weights.

    32 weights → f16 d, f16 m, 16 × two 4-bit q (20 bytes)
    byte 4 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * q + m

ggml: block_q4_1, quantize_row_q4_1_ref, quantize_row_q4_1_impl.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat
from quantrecipe.core.blocks_of_32 import N, scale_min_kernels

__all__ = ["Q4_1"]


class Q4_1(KernelFormat):  # noqa: N801  # the field's name
    """5 bits, with a scale and a minimum for 32 weights."""

    spec = FormatSpec(
        name="Q4_1",
        ggml_type=3,
        block=N,
        block_bytes=20,
        floats=(StoredFloat(kind="f16"), StoredFloat(kind="f16", at=2, name="m")),
        importance="optional",
        error_bound=0.095,
        fallback="F16",
        file_type=3,  # LLAMA_FTYPE_MOSTLY_Q4_1
        summary="4 bits and a minimum: Q4_K does better at the same size",
    )
    kernels = scale_min_kernels(bits=4)
