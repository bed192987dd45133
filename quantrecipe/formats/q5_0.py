"""Q5_0: a scale for 32 weights.

    32 weights → f16 d, 4 × fifth bits of eight q, 16 × lower bits of two q (22 bytes)
    byte 2 + i / 8  bit i % 8 is the fifth bit of q of weight i
    byte 6 + i     lower bits of q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * (q - 16)

ggml: block_q5_0, quantize_row_q5_0_ref, quantize_row_q5_0_impl.
"""

from __future__ import annotations

from quantrecipe.core.blocks_of_32 import scale_kernels

__all__ = ["KERNELS"]

KERNELS = scale_kernels(bits=5)
