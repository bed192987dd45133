"""IQ2_KT: eights of weights are points that a generator makes of 16 bits, with a 4-bit scale for 32 weights.

    row          → f32 d, then its super-blocks
    256 weights → 4 × two 4-bit scales, 32 × u16 index (68 bytes)
    byte b             the scale of weights 32 b on in its lower half, of weights 128 + 32 b on in its upper half
    bytes 4 + 2 g on   the index of weights 8 g on

    x ≈ d * VALUES[scale] * point, with the plain values of IQ4_K

ik_llama.cpp: block_iq2_kt, quantize_row_iq2_kt_impl, dequantize_row_iq2_kt.
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

__all__ = ["IQ2_KT"]

BYTES, D = 68, 4
SCALES, INDICES = 0, 4
SIZE, COUNT = 8, 1 << 16
GROUPS = BLOCK // SIZE
VALUES = FOUR_BITS.values[:16].copy()
WHAT = Trellis(
    size=SIZE, bins=2, look=(2,), search=(2, 2, 2, 2), far=(2, 2, 2, 2), guesses=((82, 116),),
    more=(0.7, 0.85, 1.15, -1, -0.8, -1.2), block_bytes=BYTES,
)  # fmt: skip


class IQ2_KT(QuantFormat):  # noqa: N801  # the field's name
    """2.125 bits, eights of weights from a generator, with a 4-bit scale for 32 weights."""

    spec = FormatSpec(
        name="IQ2_KT",
        ggml_type=153,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        row_meta_bytes=D,
        floats=(StoredFloat(kind="f32", per="row"),),
        dialect="ik",
        importance="optional",
        exactness="weighted error of each row no larger than ik_llama.cpp's; a search of its own",
        error_bound=0.35,
        fallback="IQ4_NL",
        file_type=151,  # LLAMA_FTYPE_MOSTLY_IQ2_KT
        summary="2.125 bits, a trellis type: the least error at its size, slow on CPUs",
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
        to[at + SCALES + block % 4] |= U8(U8(levels[first]) << U8(4 * (block // 4)))
        for g in range(GROUPS):
            index, stored = found[first * GROUPS + g], at + INDICES + 2 * (block * GROUPS + g)
            to[stored], to[stored + 1] = U8(index & 255), U8(index >> 8)


_encode = encoder(WHAT, uneven_levels(), _pack)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for b in range(k // BLOCK):
            at, block = start + D + b // BLOCKS * BYTES, b % BLOCKS
            scale = d * VALUES[(source[at + SCALES + block % 4] >> U8(4 * (block // 4))) & U8(15)]
            for g in range(GROUPS):
                stored = at + INDICES + 2 * (block * GROUPS + g)
                index = I32(source[stored]) | I32(source[stored + 1]) << 8
                for i in range(SIZE):
                    x[b * BLOCK + g * SIZE + i] = scale * coordinate(index, i, OFFSET)
