"""IQ1_KT: eights of weights are points that a generator makes of 13 bits, with a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 8 × scale and thirteenth bits, 32 × lower bits of an index, 16 × bits 8 to 11 of two (56 bytes)
    byte b             of weights 32 b on: bits 0 to 3 the scale, bit 4 + g the thirteenth bit of the index of eight g
    byte 8 + g         bits 0 to 7 of the index of weights 8 g on
    byte 40 + g        bits 8 to 11 of the index of weights 8 g on in its lower half, of 128 + 8 g on in its upper half

    x ≈ d * VALUES[scale] * point, with the plain values of IQ4_K

ik_llama.cpp: block_iq1_kt, quantize_row_iq1_kt_impl, dequantize_row_iq1_kt.
The generator is in `core/trellis/generator.py`; the search, which is this plugin's own, in `core/trellis/encoder.py`.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.scalars import I32, U8, Bytes, Int

from quantrecipe_ik.core.trellis.encoder import Trellis
from quantrecipe_ik.core.trellis.kernels import Stored, trellis_kernels
from quantrecipe_ik.core.trellis.levels import uneven_levels

__all__ = ["KERNELS"]

SCALES, LOWER, UPPER = 0, 8, 40
WHAT = Trellis(
    count=1 << 13, size=8, bins=2, look=(2, 2), search=(2, 2, 2, 2, 2), far=(2, 2, 2, 2, 2), guesses=((82, 116),),
    second=True, more=(0.7, 0.85, 1.15, -1, -0.8, -1.2), raised=1.07,
)  # fmt: skip


@kernel
def _put_level(to: Bytes, at: Int, block: Int, level: Int, book: Int) -> None:
    to[at + SCALES + block] |= U8(level)


@kernel
def _get_level(source: Bytes, at: Int, block: Int) -> tuple[Int, Int]:
    return I32(source[at + SCALES + block] & U8(15)), 0


@kernel
def _put_index(to: Bytes, at: Int, block: Int, g: Int, index: Int) -> None:
    eight = 4 * block + g
    to[at + LOWER + eight] = U8(index & 255)
    to[at + UPPER + eight % 16] |= U8(((index >> 8) & 15) << (4 * (eight // 16)))
    to[at + SCALES + block] |= U8((index >> 12) << (4 + g))


@kernel
def _get_index(source: Bytes, at: Int, block: Int, g: Int) -> Int:
    eight = 4 * block + g
    middle = (source[at + UPPER + eight % 16] >> U8(4 * (eight // 16))) & U8(15)
    top = (source[at + SCALES + block] >> U8(4 + g)) & U8(1)
    return I32(source[at + LOWER + eight]) | I32(middle) << 8 | I32(top) << 12


STORED = Stored(
    block_bytes=56, put_level=_put_level, get_level=_get_level, put_index=_put_index, get_index=_get_index
)

KERNELS = trellis_kernels(WHAT, uneven_levels(), STORED)
