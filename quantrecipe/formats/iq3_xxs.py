"""IQ3_XXS: fours of weights from a grid of 256 points, with a 4-bit scale and signs for 32 weights.

    256 weights → f16 d, 64 × index of a point, 8 × u32 of signs and scale (98 bytes)
    byte 2 + i            the point of weights 4 i on
    u32 at byte 66 + 4 g  bits 7 k to 7 k + 6 the signs of weights 32 g + 8 k on, but for the eighth, which makes the
                          number of negative ones even; bits 28 to 31 the scale

    |x| ≈ d * (0.5 + scale) / 2 * point, in a point 4, 12, 20, 28, 36, 44, 52 or 62

ggml: block_iq3_xxs, quantize_row_iq3_xxs_impl. The grid is in `core/tables/iq3_xxs.grid`.
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
from quantrecipe.core.scalars import F32, HALF, ONE, TWO, U8, U32, ZERO
from quantrecipe.core.signed_eights import odd_step, take_signs, weigh
from quantrecipe.core.signs import SIGNS, even
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ3_XXS"]

EPSILON = F32(1e-8)  # ggml: GROUP_MAX_EPS_IQ3_XXS
STEPS = F32(31)
FUDGE = F32(1.0125)  # ggml: "small improvement via this fudge factor"
VALUES = (4, 12, 20, 28, 36, 44, 52, 62)

BYTES = 98
POINTS, PACKED = 2, 66
GROUPS = SUPERBLOCK // GROUP
EIGHTS = GROUP // EIGHT

_search = fours_search(15, keep_points=True)
_weigh = weigh(GROUP)
_take_signs = take_signs(GROUP, even=True)


class IQ3_XXS(QuantFormat):  # noqa: N801  # the field's name
    """3.06 bits, fours of weights from a grid."""

    spec = FormatSpec(
        name="IQ3_XXS",
        ggml_type=18,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="advised",
        error_bound=0.25,
        fallback="IQ4_NL",
        file_type=23,  # LLAMA_FTYPE_MOSTLY_IQ3_XXS
        summary="3.06 bits from a grid of fours: better than Q3_K at a tenth less; slow to run on CPUs",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, fours_tables("iq3_xxs", distances=2))
        return encode_rows(
            self.spec, rows, importance, out,
            plain=lambda chunk, target: weighted(chunk, NO_IMPORTANCE, target), weighted=weighted,
        )  # fmt: skip

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, fours_values("iq3_xxs", VALUES)))


@kernel(ENCODE_FOURS)
def _encode(book: Any, rows: Any, importance: Any, out: Any) -> None:
    x, to, k = rows.reshape(rows.size), out.reshape(out.size), max(importance.size, 1)
    room, index = fours_room(), book[0]
    v, codes = room[0], room[6]
    scales, signs = np.empty(GROUPS, np.float32), np.empty((GROUPS, EIGHTS), np.uint8)
    for block in range(x.size // SUPERBLOCK):
        squares = ZERO
        for i in range(block * SUPERBLOCK, (block + 1) * SUPERBLOCK):
            squares += x[i] * x[i]
        at = block * BYTES
        to[at : at + BYTES] = U8(0)
        top = ZERO
        for g in range(GROUPS):
            first = block * SUPERBLOCK + g * GROUP
            if importance.size > 0:
                _weigh(x, first, importance, first % k, TWO * squares / F32(SUPERBLOCK), v)
            else:
                weigh_squares(x, first, v)
            largest = _take_signs(x, first, v, signs[g])
            scales[g] = ZERO
            if largest < EPSILON:
                continue
            scale = _search(book, largest, room)
            flip = 127 if scale < ZERO else 0
            scales[g] = abs(scale) if abs(scale) > ZERO else ZERO  # NaN, where weights overflow: ggml aborts
            top = scales[g] if scales[g] > top else top
            packed = 0
            for e in range(EIGHTS):
                packed |= ((signs[g, e] ^ flip) & 127) << (7 * e)
            for b in range(4):
                to[at + PACKED + 4 * g + b] = U8((packed >> (8 * b)) & 255)
            for f in range(FOURS):
                to[at + POINTS + FOURS * g + f] = U8(index[codes[f]])
        if top == ZERO:
            to[at : at + BYTES] = U8(0)
            continue
        d = top / STEPS
        put_half(to, at, d * FUDGE)
        for g in range(GROUPS):
            to[at + PACKED + 4 * g + 3] |= U8(odd_step(ONE / d, scales[g], 15) << 4)


@kernel(DECODE_FOURS)
def _decode(values: Any, data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        d = get_half(source, at)
        for g in range(GROUPS):
            packed = U32(0)
            for b in range(4):
                packed |= U32(U32(source[at + PACKED + 4 * g + b]) << U32(8 * b))
            scale = d * (HALF + F32(packed >> U32(28))) * HALF
            for e in range(EIGHTS):
                signs = even(U32(packed >> U32(7 * e)) & U32(127))
                first = block * SUPERBLOCK + g * GROUP + EIGHT * e
                for f in range(2):
                    point = source[at + POINTS + FOURS * g + 2 * e + f]
                    for i in range(4):
                        x[first + 4 * f + i] = scale * values[point, i] * SIGNS[signs, 4 * f + i]
