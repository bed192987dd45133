"""IQ2_XS: eights of weights from a grid of 512 points, with a 4-bit scale for 16 weights.

    256 weights → f16 d, 32 × u16 point and signs, 8 × two 4-bit scales (74 bytes)
    u16 k from byte 2   of weights 8 k on: bits 0 to 8 the point, bits 9 to 15 the signs of seven weights; the eighth
                        makes the number of negative ones even
    byte 66 + p         the scale of weights 32 p on in its lower half, of weights 32 p + 16 on in its upper half

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

ggml: block_iq2_xs, quantize_row_iq2_xs_impl. The grid is in `core/tables/iq2_xs.grid`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.eights import DECODE_EIGHTS, EIGHT, ENCODE_EIGHTS, TERMS, eights_tables, eights_values
from quantrecipe.core.grid_of_eights import eights_refit, eights_search
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import sums_of_squares
from quantrecipe.core.signed_eights import odd_step, take_signs, weigh
from quantrecipe.core.signs import SIGNS, even
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ2_XS"]

F32 = np.float32
U8 = np.uint8
U32 = np.uint32
ZERO, ONE, HALF, QUARTER = F32(0), F32(1), F32(0.5), F32(0.25)
EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
STEPS = F32(31)
VALUES = (8, 25, 43)

BYTES = 74
CODES, SCALES = 2, 66
N = 16
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
LANES = 24
SIDE_BY_SIDE = 8

_search = eights_search(N, lanes=LANES, steps=9)
_refit = eights_refit(N, lanes=LANES)
_weigh = weigh(N)
_take_signs = take_signs(N, even=True)


class IQ2_XS(QuantFormat):  # noqa: N801  # the field's name
    """2.31 bits, eights of weights from a grid."""

    spec = FormatSpec(
        name="IQ2_XS",
        ggml_type=17,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        importance="required",
        error_bound=0.5,
        fallback="IQ4_NL",
        file_type=20,  # LLAMA_FTYPE_MOSTLY_IQ2_XS
        summary="2.31 bits from a grid of eights; needs importance",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq2_xs", distances=2, lanes=LANES))
        return encode_rows(self.spec, rows, importance, out, plain=None, weighted=weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, eights_values("iq2_xs", VALUES)))


@kernel(ENCODE_EIGHTS)
def _encode(book: Any, rows: Any, importance: Any, out: Any) -> None:
    x, to, k = rows.reshape(rows.size), out.reshape(out.size), importance.size
    v, s = np.empty(3 * N, np.float32), np.empty(4 * LANES, np.float32)
    terms, best = np.empty(TERMS * LANES, np.float32), np.empty(2 * LANES, np.float32)
    codes, off = np.zeros(PARTS * LANES, np.int32), np.zeros(PARTS * LANES, np.int32)
    chosen, doubtful = np.zeros(PARTS, np.int32), np.zeros(PARTS, np.int32)
    signs, scales = np.zeros(PARTS, np.uint8), np.zeros(GROUPS, np.float32)
    squares = np.empty(SIDE_BY_SIDE, np.float32)
    blocks = x.size // SUPERBLOCK
    for block in range(blocks):
        if block % SIDE_BY_SIDE == 0:
            sums_of_squares(x, block, min(SIDE_BY_SIDE, blocks - block), SUPERBLOCK, squares)
        sigma = squares[block % SIDE_BY_SIDE] / F32(SUPERBLOCK)
        at = block * BYTES
        to[at : at + BYTES] = U8(0)
        top = ZERO
        for g in range(GROUPS):
            first = block * SUPERBLOCK + g * N
            _weigh(x, first, importance, first % k, sigma, v)
            largest = _take_signs(x, first, v, signs)
            scales[g] = ZERO
            if largest < EPSILON:
                continue
            winner, scale = _search(v, largest, s, terms, best, codes, off, book)
            unsure = 0
            for p in range(PARTS):
                chosen[p] = codes[p * LANES + winner] if winner >= 0 else 0
                doubtful[p] = off[p * LANES + winner] if winner >= 0 else 0
                unsure |= doubtful[p]
            scale = scale if winner >= 0 else largest / F32(5)
            if unsure and scale > ZERO:
                scale = _refit(v, scale, terms, chosen, doubtful, book)
            flip = 127 if scale < ZERO else 0
            scales[g] = abs(scale) if abs(scale) > ZERO else ZERO
            top = max(top, scales[g])
            for p in range(PARTS):
                pair = book[0][chosen[p]] | (((signs[p] ^ flip) & 127) << 9)
                to[at + CODES + 2 * (g * PARTS + p)] = U8(pair & 255)
                to[at + CODES + 2 * (g * PARTS + p) + 1] = U8(pair >> 8)
        if top == ZERO:
            to[at : at + BYTES] = U8(0)
            continue
        d = top / STEPS
        put_half(to, at, d)
        for p in range(GROUPS // 2):
            low, high = odd_step(ONE / d, scales[2 * p], 15), odd_step(ONE / d, scales[2 * p + 1], 15)
            to[at + SCALES + p] = U8(low | (high << 4))


@kernel(DECODE_EIGHTS)
def _decode(values: Any, data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        d = get_half(source, at)
        for g in range(GROUPS):
            nibbles = source[at + SCALES + g // 2]
            scale = d * (HALF + F32(nibbles >> U8(4) if g % 2 else nibbles & U8(15))) * QUARTER
            for p in range(PARTS):
                low, high = source[at + CODES + 4 * g + 2 * p], source[at + CODES + 4 * g + 2 * p + 1]
                point, signs = low | ((high & 1) << 8), even(U32(high >> 1))
                for i in range(EIGHT):
                    to = block * SUPERBLOCK + g * N + p * EIGHT + i
                    x[to] = scale * values[point, i] * SIGNS[signs, i]
