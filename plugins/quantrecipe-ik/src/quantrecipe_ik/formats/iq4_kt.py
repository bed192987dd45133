"""IQ4_KT: fours of weights are points that a generator makes of 15 bits and one for the block, a 7-bit scale for 32.

    row          → f32 d, then its super-blocks
    256 weights → 8 × u32, 64 × lower bits of an index, 32 × bits 8 to 11 of two (128 bytes)
    u32 b            of weights 32 b on: bit 0 the book, bits 1 to 7 the scale, bits 8 + 3 g to 10 + 3 g the
                     upper bits of the index of four g
    byte 32 + g      bits 0 to 7 of the index of weights 4 g on
    byte 96 + g      bits 8 to 11 of the index of weights 4 g on in its lower half, of 128 + 4 g on in its upper half

    x ≈ d * (scale - 64) * point

ik_llama.cpp: block_iq4_kt, quantize_row_iq4_kt_impl, dequantize_row_iq4_kt.
The generator is in `core/trellis/generator.py`; the search, which is this plugin's own, in `core/trellis/encoder.py`.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.bits import get_word
from quantrecipe.core.scalars import I32, U8, U32, Bytes, Int

from quantrecipe_ik.core.trellis.encoder import Trellis
from quantrecipe_ik.core.trellis.generator import OFFSET
from quantrecipe_ik.core.trellis.kernels import Stored, trellis_kernels
from quantrecipe_ik.core.trellis.levels import sixty_four_levels

__all__ = ["KERNELS"]

HEADS, LOWER, UPPER = 0, 32, 96
COUNT = 1 << 15
WHAT = Trellis(
    count=COUNT, size=4, bins=4, offsets=(OFFSET, OFFSET + COUNT), look=(2, 2), search=(3, 3, 2), far=(4, 4, 2),
    guesses=((50, 84), (58, 92), (68, 102), (80, 114), (95, 129)), more=(1, 0.7, 0.85, 1.2, -1, -0.8),
)  # fmt: skip


@kernel
def _put_level(to: Bytes, at: Int, block: Int, level: Int, book: Int) -> None:
    to[at + HEADS + 4 * block] |= U8(book | (level + 64) << 1)


@kernel
def _get_level(source: Bytes, at: Int, block: Int) -> tuple[Int, Int]:
    head = I32(source[at + HEADS + 4 * block])
    return (head >> 1) - 64, head & 1


@kernel
def _put_index(to: Bytes, at: Int, block: Int, g: Int, index: Int) -> None:
    four, upper = 8 * block + g, (index >> 12) << (3 * g)
    to[at + LOWER + four] = U8(index & 255)
    to[at + UPPER + four % 32] |= U8(((index >> 8) & 15) << (4 * (four // 32)))
    for i in range(3):
        to[at + HEADS + 4 * block + 1 + i] |= U8((upper >> (8 * i)) & 255)


@kernel
def _get_index(source: Bytes, at: Int, block: Int, g: Int) -> Int:
    four, head = 8 * block + g, get_word(source, at + HEADS + 4 * block)
    middle = (source[at + UPPER + four % 32] >> U8(4 * (four // 32))) & U8(15)
    upper = U32(head >> U32(8 + 3 * g)) & U32(7)
    return I32(source[at + LOWER + four]) | I32(middle) << 8 | I32(upper) << 12


STORED = Stored(
    block_bytes=128, put_level=_put_level, get_level=_get_level, put_index=_put_index, get_index=_get_index
)

KERNELS = trellis_kernels(WHAT, sixty_four_levels(), STORED)
