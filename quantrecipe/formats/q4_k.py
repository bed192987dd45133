"""Q4_K: super-blocks of 8 groups of 32 weights, each group with a 6-bit scale and minimum.

    256 weights → f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 × two 4-bit q (144 bytes)
    bytes 4 to 15 are drawn in `core/k_quants/six_bit_scales.py`
    byte 16 + 32 p + i holds q of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half

    x ≈ d * scale * q - dmin * minimum

ggml: block_q4_K, quantize_row_q4_K_ref, quantize_row_q4_K_impl.
"""

from __future__ import annotations

from quantrecipe.core.k_quants.six_bit_scales import six_bit_kernels

__all__ = ["KERNELS"]

KERNELS = six_bit_kernels(bits=4, rmin=-1.0, rdelta=0.1, nstep=20, limit=255)
