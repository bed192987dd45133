"""Q4_1: a scale and a minimum for 32 weights.

    32 weights → f16 d, f16 m, 16 × two 4-bit q (20 bytes)
    byte 4 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * q + m

ggml: block_q4_1, quantize_row_q4_1_ref, quantize_row_q4_1_impl.
"""

from __future__ import annotations

from quantrecipe.core.blocks_of_32 import scale_min_kernels

__all__ = ["KERNELS"]

KERNELS = scale_min_kernels(bits=4)
