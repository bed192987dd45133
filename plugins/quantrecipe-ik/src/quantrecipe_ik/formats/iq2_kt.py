"""IQ2_KT: eights of weights are points that a generator makes of 16 bits, with a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 4 × two 4-bit scales, 32 × u16 index (68 bytes)
    byte b             the scale of weights 32 b on in its lower half, of weights 128 + 32 b on in its upper half
    bytes 4 + 2 g on   the index of weights 8 g on

    x ≈ d * VALUES[scale] * point, with the plain values of IQ4_K

ik_llama.cpp: block_iq2_kt, quantize_row_iq2_kt_impl, dequantize_row_iq2_kt.
The generator is in `core/trellis/generator.py`; the search, which is this plugin's own, in `core/trellis/encoder.py`.
"""

from __future__ import annotations

from quantrecipe_ik.core.trellis.encoder import Trellis
from quantrecipe_ik.core.trellis.kernels import nibbles_and_words, trellis_kernels
from quantrecipe_ik.core.trellis.levels import uneven_levels

__all__ = ["KERNELS"]

WHAT = Trellis(
    count=1 << 16, size=8, bins=2, look=(2,), search=(2, 2, 2, 2), far=(2, 2, 2, 2), guesses=((82, 116),),
    more=(0.7, 0.85, 1.15, -1, -0.8, -1.2),
)  # fmt: skip
STORED = nibbles_and_words(block_bytes=68)

KERNELS = trellis_kernels(WHAT, uneven_levels(), STORED)
