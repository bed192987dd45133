"""IQ3_S: fours of weights from a grid of 512 points, with a 4-bit scale for 32 weights.

    256 weights → f16 d, 64 × lower bits of a point, 8 × 8 upper bits, 32 × 8 signs, 4 × two scales (110 bytes)
    byte 2 + i     the lower 8 bits of the point of weights 4 i on; its ninth bit is bit i % 8 of byte 66 + i // 8
    byte 74 + i    the signs of weights 8 i on (see `core/signs.py`)
    byte 106 + p   the scale of group 2 p in its lower half, of group 2 p + 1 in its upper half

    |x| ≈ d * (1 + 2 * scale) * point, in a point 1, 3, 5, 7, 9, 11, 13 or 15

ggml: block_iq3_s, quantize_row_iq3_s_impl. The grid is in `core/tables/iq3_s.grid`. In a super-block with a group of
zeros, ggml writes lower bits and signs of the groups after it one group too early, and so does this encoder.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.eights import EIGHT, NO_IMPORTANCE
from quantrecipe.core.fours import DECODE_FOURS, ENCODE_FOURS, fours_tables, fours_values, weigh_squares
from quantrecipe.core.fours_search import FOURS, GROUP, fours_room, fours_search
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.scalars import F32, I32, ONE, TWO, U8, ZERO
from quantrecipe.core.signed_eights import odd_step, take_signs, weigh
from quantrecipe.core.signs import SIGNS
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ3_S"]

STEPS = F32(31)
FUDGE = F32(1.033)  # ggml's, as in IQ3_XXS
VALUES = (1, 3, 5, 7, 9, 11, 13, 15)

BYTES = 110
POINTS, UPPER, SIGN_BYTES, SCALES = 2, 66, 74, 106
GROUPS = SUPERBLOCK // GROUP
EIGHTS = GROUP // EIGHT

_search = fours_search(9, keep_points=False)
_weigh = weigh(GROUP)
_take_signs = take_signs(GROUP, even=False)


class IQ3_S(QuantFormat):  # noqa: N801  # the field's name
    """3.44 bits, fours of weights from a grid."""

    spec = FormatSpec(
        name="IQ3_S",
        ggml_type=21,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="optional",
        error_bound=0.2,
        fallback="IQ4_NL",
        file_type=26,  # LLAMA_FTYPE_MOSTLY_IQ3_S
        summary="3.44 bits from a grid of fours: better than Q3_K at its size; slow to run on CPUs",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, fours_tables("iq3_s", distances=3))
        return encode_rows(
            self.spec, rows, importance, out,
            plain=lambda chunk, target: weighted(chunk, NO_IMPORTANCE, target), weighted=weighted,
        )  # fmt: skip

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, fours_values("iq3_s", VALUES)))


@kernel(ENCODE_FOURS)
def _encode(book: Any, rows: Any, importance: Any, out: Any) -> None:
    x, to, k = rows.reshape(rows.size), out.reshape(out.size), max(importance.size, 1)
    room, index = fours_room(), book[0]
    v, codes = room[0], room[6]
    scales, signs = np.empty(GROUPS, np.float32), np.empty(EIGHTS, np.uint8)
    for block in range(x.size // SUPERBLOCK):
        squares = ZERO
        for i in range(block * SUPERBLOCK, (block + 1) * SUPERBLOCK):
            squares += x[i] * x[i]
        at = block * BYTES
        to[at : at + BYTES] = U8(0)
        top, slot = ZERO, 0
        for g in range(GROUPS):
            first = block * SUPERBLOCK + g * GROUP
            if importance.size > 0:
                _weigh(x, first, importance, first % k, TWO * squares / F32(SUPERBLOCK), v)
            else:
                weigh_squares(x, first, v)
            largest = _take_signs(x, first, v, signs)
            scales[g] = ZERO
            if largest == ZERO:
                continue
            scale = _search(book, largest, room)
            flip = 255 if scale < ZERO else 0
            scales[g] = abs(scale) if abs(scale) > ZERO else ZERO  # NaN, where weights overflow: ggml aborts
            top = scales[g] if scales[g] > top else top
            for f in range(FOURS):
                point = I32(index[codes[f]])
                to[at + POINTS + FOURS * slot + f] = U8(point & 255)
                to[at + UPPER + g] |= U8((point >> 8) << f)
            for e in range(EIGHTS):
                to[at + SIGN_BYTES + EIGHTS * slot + e] = U8(signs[e] ^ flip)
            slot += 1
        if top == ZERO:
            continue
        d = top / STEPS
        put_half(to, at, d * FUDGE)
        for g in range(GROUPS):
            to[at + SCALES + g // 2] |= U8(odd_step(ONE / d, scales[g], 15) << (4 * (g % 2)))


@kernel(DECODE_FOURS)
def _decode(values: Any, data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        d = get_half(source, at)
        for g in range(GROUPS):
            nibble = (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)
            scale = d * F32(I32(nibble) * I32(2) + I32(1))
            upper = I32(source[at + UPPER + g])
            for e in range(EIGHTS):
                signs = source[at + SIGN_BYTES + EIGHTS * g + e]
                first = block * SUPERBLOCK + g * GROUP + EIGHT * e
                for f in range(2):
                    point = I32(source[at + POINTS + FOURS * g + 2 * e + f])
                    point |= I32((upper >> I32(2 * e + f)) & I32(1)) << I32(8)
                    for i in range(4):
                        x[first + 4 * f + i] = scale * values[point, i] * SIGNS[signs, 4 * f + i]
