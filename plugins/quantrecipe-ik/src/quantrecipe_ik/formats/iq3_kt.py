"""IQ3_KT: eights of sizes are points that a generator makes of 16 bits, signs apart, a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 4 × two 4-bit scales, 32 × u16 index, 32 × eight signs (100 bytes)
    byte b             the scale of weights 32 b on in its lower half, of weights 128 + 32 b on in its upper half
    bytes 4 + 2 g on   the index of weights 8 g on
    byte 68 + i        bit b: whether weight 32 b + i is negative

    |x| ≈ d * scale * |point|

ik_llama.cpp: block_iq3_kt, quantize_row_iq3_kt_impl, dequantize_row_iq3_kt.
The generator is in `core/trellis/generator.py`; the search, which is this plugin's own, in `core/trellis/encoder.py`.
"""

from __future__ import annotations

from quantrecipe_ik.core.trellis.encoder import Trellis
from quantrecipe_ik.core.trellis.kernels import nibbles_and_words, trellis_kernels
from quantrecipe_ik.core.trellis.levels import even_levels

__all__ = ["KERNELS"]

WHAT = Trellis(
    count=1 << 16, size=8, bins=2, positive=True, look=(2,), search=(2, 2, 2, 2), far=(2, 2, 2, 2), second=True,
    guesses=((68, 107), (84, 123), (100, 139)), more=(0.6, 0.7, 0.8, 0.9, 1.1, 1.25),
)  # fmt: skip
STORED = nibbles_and_words(block_bytes=100, signs=68)

KERNELS = trellis_kernels(WHAT, even_levels(), STORED)
