"""IQ3_KT: eights of sizes are points that a generator makes of 16 bits, signs apart, a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 4 × two 4-bit scales, 32 × u16 index, 32 × eight signs (100 bytes)
    byte b             the scale of weights 32 b on in its lower half, of weights 128 + 32 b on in its upper half
    bytes 4 + 2 g on   the index of weights 8 g on
    byte 68 + i        bit b: whether weight 32 b + i is negative

    |x| ≈ d * scale * |point|

ik_llama.cpp: block_iq3_kt, quantize_row_iq3_kt_impl, dequantize_row_iq3_kt.
The generator is in `core/trellis.py`; the search, which is this plugin's own, in `core/trellis_encoder.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, decode_rows, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.scalars import F32, I32, U8, ZERO

from quantrecipe_ik.core.scales import get_float
from quantrecipe_ik.core.trellis import OFFSET, books, coordinate
from quantrecipe_ik.core.trellis_encoder import Trellis, encode_with, encoder
from quantrecipe_ik.core.trellis_levels import even_levels
from quantrecipe_ik.core.trellis_rows import BLOCK, BLOCKS
from quantrecipe_ik.core.weights import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ3_KT"]

BYTES, D = 100, 4
SCALES, INDICES, SIGNS = 0, 4, 68
SIZE, COUNT = 8, 1 << 16
GROUPS = BLOCK // SIZE
WHAT = Trellis(
    size=SIZE, bins=2, positive=True, look=(2,), search=(2, 2, 2, 2), far=(2, 2, 2, 2), second=True,
    guesses=((68, 107), (84, 123), (100, 139)), more=(0.6, 0.7, 0.8, 0.9, 1.1, 1.25), block_bytes=BYTES,
)  # fmt: skip


class IQ3_KT(QuantFormat):  # noqa: N801  # the field's name
    """3.125 bits, eights of sizes from a generator, with a 4-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ3_KT",
        ggml_type=154,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="weighted error of each row no larger than ik_llama.cpp's; a search of its own",
        error_bound=0.2,
        fallback="IQ4_NL",
        file_type=152,  # LLAMA_FTYPE_MOSTLY_IQ3_KT
        summary="3.125 bits, a trellis type: the least error at its size, slow on CPUs",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_with(
            self.spec, _encode, books(COUNT, SIZE, WHAT.bins, positive=True), rows, importance, out
        )

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel
def _pack(rows: Any, levels: Any, found: Any, chosen: Any, row: Any, to: Any, start: Any) -> None:
    """Write a row's super-blocks."""
    blocks = rows.shape[1] // BLOCK
    for b in range(blocks):
        at, block, first = place(start + D + b // BLOCKS * BYTES), b % BLOCKS, row * blocks + b
        to[at + SCALES + block % 4] |= U8(U8(levels[first]) << U8(4 * (block // 4)))
        for g in range(GROUPS):
            index, stored = found[first * GROUPS + g], at + INDICES + 2 * (block * GROUPS + g)
            to[stored], to[stored + 1] = U8(index & 255), U8(index >> 8)
        for i in range(BLOCK):
            negative = rows[row, b * BLOCK + i] < ZERO
            to[at + SIGNS + i] |= U8((U8(1) if negative else U8(0)) << U8(block))


_encode = encoder(WHAT, even_levels(), _pack)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for b in range(k // BLOCK):
            at, block = start + D + b // BLOCKS * BYTES, b % BLOCKS
            scale = d * F32((source[at + SCALES + block % 4] >> U8(4 * (block // 4))) & U8(15))
            for g in range(GROUPS):
                stored = at + INDICES + 2 * (block * GROUPS + g)
                index = I32(source[stored]) | I32(source[stored + 1]) << 8
                for i in range(SIZE):
                    value = scale * abs(coordinate(index, i, OFFSET))
                    negative = (source[at + SIGNS + g * SIZE + i] >> U8(block)) & U8(1)
                    x[b * BLOCK + g * SIZE + i] = -value if negative else value
