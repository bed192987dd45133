"""IQ4_KT: fours of weights are points that a generator makes of 15 bits and one for the block, a 7-bit scale for 32.

    row          → f32 d, then its super-blocks
    256 weights → 8 × u32, 64 × lower bits of an index, 32 × bits 8 to 11 of two (128 bytes)
    u32 b            of weights 32 b on: bit 0 the book, bits 1 to 7 the scale, bits 8 + 3 g to 10 + 3 g the
                     upper bits of the index of four g
    byte 32 + g      bits 0 to 7 of the index of weights 4 g on
    byte 96 + g      bits 8 to 11 of the index of weights 4 g on in its lower half, of 128 + 4 g on in its upper half

    x ≈ d * (scale - 64) * point

ik_llama.cpp: block_iq4_kt, quantize_row_iq4_kt_impl, dequantize_row_iq4_kt.
The generator is in `core/trellis.py`; the search, which is this plugin's own, in `core/trellis_encoder.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, decode_rows, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.scalars import F32, I32, U8

from quantrecipe_ik.core.scales import get_float
from quantrecipe_ik.core.trellis import OFFSET, books, coordinate
from quantrecipe_ik.core.trellis_encoder import Trellis, encode_with, encoder
from quantrecipe_ik.core.trellis_levels import sixty_four_levels
from quantrecipe_ik.core.trellis_rows import BLOCK, BLOCKS
from quantrecipe_ik.core.weights import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ4_KT"]

BYTES, D = 128, 4
HEADS, LOWER, UPPER = 0, 32, 96
SIZE, COUNT = 4, 1 << 15
GROUPS = BLOCK // SIZE
OFFSETS = (OFFSET, OFFSET + COUNT)
WHAT = Trellis(
    size=SIZE, bins=4, offsets=OFFSETS, look=(2, 2), search=(3, 3, 2), far=(4, 4, 2),
    guesses=((50, 84), (58, 92), (68, 102), (80, 114), (95, 129)), more=(1, 0.7, 0.85, 1.2, -1, -0.8),
    block_bytes=BYTES,
)  # fmt: skip


class IQ4_KT(QuantFormat):  # noqa: N801  # the field's name
    """4 bits, fours of weights from a generator, with a 7-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ4_KT",
        ggml_type=155,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="weighted error in total no larger than ik_llama.cpp's; a search of its own",
        error_bound=0.1,
        fallback="IQ4_NL",
        file_type=153,  # LLAMA_FTYPE_MOSTLY_IQ4_KT
        summary="4 bits, a trellis type: the least error at its size, slow on CPUs",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_with(
            self.spec, _encode, books(COUNT, SIZE, WHAT.bins, offsets=OFFSETS), rows, importance, out
        )

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel
def _pack(rows: Any, levels: Any, found: Any, chosen: Any, row: Any, to: Any, start: Any) -> None:
    """Write a row's super-blocks."""
    blocks = rows.shape[1] // BLOCK
    for b in range(blocks):
        at, block, first = place(start + D + b // BLOCKS * BYTES), b % BLOCKS, row * blocks + b
        head = I32(chosen[first]) | (levels[first] + 64) << 1
        for g in range(GROUPS):
            index, four = found[first * GROUPS + g], block * GROUPS + g
            head |= (index >> 12) << (8 + 3 * g)
            to[at + LOWER + four] = U8(index & 255)
            to[at + UPPER + four % 32] |= U8(((index >> 8) & 15) << (4 * (four // 32)))
        for i in range(4):
            to[at + HEADS + 4 * block + i] = U8((head >> (8 * i)) & 255)


_encode = encoder(WHAT, sixty_four_levels(), _pack)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for b in range(k // BLOCK):
            at, block, head = start + D + b // BLOCKS * BYTES, b % BLOCKS, I32(0)
            for i in range(4):
                head |= I32(source[at + HEADS + 4 * block + i]) << (8 * i)
            scale, offset = d * F32(((head & 255) >> 1) - 64), OFFSET + COUNT * (head & 1)
            for g in range(GROUPS):
                four = block * GROUPS + g
                middle = (source[at + UPPER + four % 32] >> U8(4 * (four // 32))) & U8(15)
                index = I32(source[at + LOWER + four]) | I32(middle) << 8 | ((head >> (8 + 3 * g)) & 7) << 12
                for i in range(SIZE):
                    x[b * BLOCK + g * SIZE + i] = scale * coordinate(index, i, offset)
