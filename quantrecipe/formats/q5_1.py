"""Q5_1: a scale and a minimum for 32 weights.

    32 weights → f16 d, f16 m, 4 × fifth bits of eight q, 16 × lower bits of two q (24 bytes)
    byte 4 + i / 8  bit i % 8 is the fifth bit of q of weight i
    byte 8 + i     lower bits of q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * q + m

ggml: block_q5_1, quantize_row_q5_1_ref, quantize_row_q5_1_impl.
"""

from __future__ import annotations

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import KernelFormat
from quantrecipe.core.blocks_of_32 import N, scale_min_kernels

__all__ = ["Q5_1"]


class Q5_1(KernelFormat):  # noqa: N801  # the field's name
    """6 bits, with a scale and a minimum for 32 weights."""

    spec = FormatSpec(
        name="Q5_1",
        ggml_type=7,
        block=N,
        block_bytes=24,
        floats=(StoredFloat(kind="f16"), StoredFloat(kind="f16", at=2, name="m")),
        importance="optional",
        error_bound=0.05,
        fallback="F16",
        file_type=9,  # LLAMA_FTYPE_MOSTLY_Q5_1
        summary="5 bits and a minimum: what Q5_K falls back to",
    )
    kernels = scale_min_kernels(bits=5)
