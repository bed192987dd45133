"""Q4_0: a scale for 32 weights.

    32 weights → f16 d, 16 × two 4-bit q (18 bytes)
    byte 2 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * (q - 8)

ggml: block_q4_0, quantize_row_q4_0_ref, quantize_row_q4_0_impl.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat
from quantrecipe.core.blocks_of_32 import N, scale_kernels

__all__ = ["Q4_0"]


class Q4_0(KernelFormat):  # noqa: N801  # the field's name
    """4.5 bits, with a scale for 32 weights."""

    spec = FormatSpec(
        name="Q4_0",
        ggml_type=2,
        block=N,
        block_bytes=18,
        floats=(StoredFloat(kind="f16"),),
        importance="optional",
        error_bound=0.115,
        fallback="F16",
        file_type=2,  # LLAMA_FTYPE_MOSTLY_Q4_0
        summary="4 bits, the simplest way: for engines that run nothing else as fast",
    )
    kernels = scale_kernels(bits=4)
