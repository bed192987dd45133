"""Q5_K: super-blocks of 8 groups of 32 weights, each group with a 6-bit scale and minimum.

    256 weights → f16 d, f16 dmin, 12 bytes of scales and minima (see `core/k_quants/six_bit_scales.py`),
                  32 × eight upper bits of q, 128 × two times four lower bits of q (176 bytes)
    byte 16 + i         bit g is the upper bit of q of weight 32 g + i
    byte 48 + 32 p + i  lower bits of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half

    x ≈ d * scale * q - dmin * minimum

ggml: block_q5_K, quantize_row_q5_K_ref, quantize_row_q5_K_impl.
"""

from __future__ import annotations

from quantrecipe.core.k_quants.six_bit_scales import six_bit_kernels

__all__ = ["KERNELS"]

KERNELS = six_bit_kernels(bits=5, rmin=-0.5, rdelta=0.1, nstep=15, limit=63)
