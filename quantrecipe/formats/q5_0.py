"""Q5_0: a scale for 32 weights.

    32 weights → f16 d, 4 × fifth bits of eight q, 16 × lower bits of two q (22 bytes)
    byte 2 + i / 8  bit i % 8 is the fifth bit of q of weight i
    byte 6 + i     lower bits of q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * (q - 16)

ggml: block_q5_0, quantize_row_q5_0_ref, quantize_row_q5_0_impl.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat
from quantrecipe.core.blocks_of_32 import N, scale_kernels

__all__ = ["Q5_0"]


class Q5_0(KernelFormat):  # noqa: N801  # the field's name
    """5.5 bits, with a scale for 32 weights."""

    spec = FormatSpec(
        name="Q5_0",
        ggml_type=6,
        block=N,
        block_bytes=22,
        floats=(StoredFloat(kind="f16"),),
        importance="optional",
        error_bound=0.06,
        fallback="F16",
        file_type=8,  # LLAMA_FTYPE_MOSTLY_Q5_0
        summary="5 bits, the simplest way: what Q4_K falls back to",
    )
    kernels = scale_kernels(bits=5)
