"""Q5_1: a scale and a minimum for 32 weights.

    32 weights → f16 d, f16 m, 4 × fifth bits of eight q, 16 × lower bits of two q (24 bytes)
    byte 4 + i / 8  bit i % 8 is the fifth bit of q of weight i
    byte 8 + i     lower bits of q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * q + m

ggml: block_q5_1, quantize_row_q5_1_ref, quantize_row_q5_1_impl.
"""

from __future__ import annotations

from quantrecipe.core.blocks_of_32 import scale_min_kernels

__all__ = ["KERNELS"]

KERNELS = scale_min_kernels(bits=5)
