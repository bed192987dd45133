"""IQ1_KT: eights of weights are points that a generator makes of 13 bits, with a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 8 × scale and thirteenth bits, 32 × lower bits of an index, 16 × bits 8 to 11 of two (56 bytes)
    byte b             of weights 32 b on: bits 0 to 3 the scale, bit 4 + g the thirteenth bit of the index of eight g
    byte 8 + g         bits 0 to 7 of the index of weights 8 g on
    byte 40 + g        bits 8 to 11 of the index of weights 8 g on in its lower half, of 128 + 8 g on in its upper half

    x ≈ d * VALUES[scale] * point, with the plain values of IQ4_K

ik_llama.cpp: block_iq1_kt, quantize_row_iq1_kt_impl, dequantize_row_iq1_kt.
The generator is in `core/trellis.py`; the search, which is this plugin's own, in `core/trellis_encoder.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, decode_rows, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.scalars import I32, U8

from quantrecipe_ik.core.scales import get_float
from quantrecipe_ik.core.tables import FOUR_BITS
from quantrecipe_ik.core.trellis import OFFSET, books, coordinate
from quantrecipe_ik.core.trellis_encoder import Trellis, encode_with, encoder
from quantrecipe_ik.core.trellis_levels import uneven_levels
from quantrecipe_ik.core.trellis_rows import BLOCK, BLOCKS
from quantrecipe_ik.core.weights import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ1_KT"]

BYTES, D = 56, 4
SCALES, LOWER, UPPER = 0, 8, 40
SIZE, COUNT = 8, 1 << 13
GROUPS = BLOCK // SIZE
VALUES = FOUR_BITS.values[:16].copy()
WHAT = Trellis(
    size=SIZE, bins=2, look=(2, 2), search=(2, 2, 2, 2, 2), far=(2, 2, 2, 2, 2), guesses=((82, 116),), second=True,
    more=(0.7, 0.85, 1.15, -1, -0.8, -1.2), block_bytes=BYTES, raised=1.07,
)  # fmt: skip


class IQ1_KT(QuantFormat):  # noqa: N801  # the field's name
    """1.75 bits, eights of weights from a generator, with a 4-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ1_KT",
        ggml_type=158,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="weighted error of each row no larger than ik_llama.cpp's; a search of its own",
        error_bound=0.45,
        fallback="IQ4_NL",
        file_type=156,  # LLAMA_FTYPE_MOSTLY_IQ1_KT
        summary="1.75 bits, a trellis type: the least error at its size, slow on CPUs",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_with(self.spec, _encode, books(COUNT, SIZE, WHAT.bins), rows, importance, out)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel
def _pack(rows: Any, levels: Any, found: Any, chosen: Any, row: Any, to: Any, start: Any) -> None:
    """Write a row's super-blocks."""
    blocks = rows.shape[1] // BLOCK
    for b in range(blocks):
        at, block, first = place(start + D + b // BLOCKS * BYTES), b % BLOCKS, row * blocks + b
        to[at + SCALES + block] |= U8(levels[first])
        for g in range(GROUPS):
            index, eight = found[first * GROUPS + g], block * GROUPS + g
            to[at + LOWER + eight] = U8(index & 255)
            to[at + UPPER + eight % 16] |= U8(((index >> 8) & 15) << (4 * (eight // 16)))
            to[at + SCALES + block] |= U8((index >> 12) << (4 + g))


_encode = encoder(WHAT, uneven_levels(), _pack)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for b in range(k // BLOCK):
            at, block = start + D + b // BLOCKS * BYTES, b % BLOCKS
            stored = source[at + SCALES + block]
            scale = d * VALUES[stored & U8(15)]
            for g in range(GROUPS):
                eight = block * GROUPS + g
                middle = (source[at + UPPER + eight % 16] >> U8(4 * (eight // 16))) & U8(15)
                top = (stored >> U8(4 + g)) & U8(1)
                index = I32(source[at + LOWER + eight]) | I32(middle) << 8 | I32(top) << 12
                for i in range(SIZE):
                    x[b * BLOCK + g * SIZE + i] = scale * coordinate(index, i, OFFSET)
