"""Q4_0: a scale for 32 weights.

    32 weights → f16 d, 16 × two 4-bit q (18 bytes)
    byte 2 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * (q - 8)

ggml: block_q4_0, quantize_row_q4_0_ref, quantize_row_q4_0_impl.
"""

from __future__ import annotations

from quantrecipe.core.blocks_of_32 import scale_kernels

__all__ = ["KERNELS"]

KERNELS = scale_kernels(bits=4)
