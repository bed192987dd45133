"""IQ2_S: eights of weights from a grid of 1024 points, each with its sign, and a 4-bit scale for 16 weights.

    256 weights → f16 d, 32 × lower 8 bits of a point, 32 × signs, 8 × upper 2 bits of four points, 8 × two 4-bit scales
    (82 bytes)
    byte 2 + k    lower bits of the point of weights 8 k on
    byte 34 + k   their signs: bit i is set where weight 8 k + i is negative
    byte 66 + b   bits 2 l and 2 l + 1 the upper bits of the point of weights 32 b + 8 l on
    byte 74 + b   the scale of weights 32 b on in its lower half, of weights 32 b + 16 on in its upper half

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

ggml: block_iq2_s, quantize_row_iq2_s_impl. The grid is in `core/tables/iq2_s.grid`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.eights import (
    DECODE_EIGHTS,
    EIGHT,
    ENCODE_EIGHTS,
    NO_IMPORTANCE,
    TERMS,
    eights_tables,
    eights_values,
)
from quantrecipe.core.grid_of_eights import eights_refit, eights_search
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import sums_of_squares
from quantrecipe.core.signed_eights import odd_step, take_signs, weigh, weigh_plain
from quantrecipe.core.signs import SIGNS
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ2_S"]

F32 = np.float32
U8 = np.uint8
ZERO, ONE, HALF, QUARTER, TWO = F32(0), F32(1), F32(0.5), F32(0.25), F32(2)
EPSILON = F32(1e-8)  # ggml: GROUP_MAX_EPS_IQ2_S
STEPS = F32(31)
VALUES = (8, 25, 43)
FUDGE = F32(0.9875)  # ggml's, for the scale that is stored

BYTES = 82
LOW, SIGN, HIGH, SCALES = 2, 34, 66, 74
N = 16
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
LANES = 24
SIDE_BY_SIDE = 8

_search = eights_search(N, lanes=LANES, steps=9)
_refit = eights_refit(N, lanes=LANES)
_weigh, _weigh_plain = weigh(N), weigh_plain(N)
_take_signs = take_signs(N, even=False)


class IQ2_S(QuantFormat):  # noqa: N801  # the field's name
    """2.56 bits, eights of weights from a grid."""

    spec = FormatSpec(
        name="IQ2_S",
        ggml_type=22,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        importance="advised",
        error_bound=0.5,
        fallback="IQ4_NL",
        file_type=28,  # LLAMA_FTYPE_MOSTLY_IQ2_S
        summary="2.56 bits from a grid of eights, the best of the 2-bit types",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq2_s", distances=1, lanes=LANES))
        return encode_rows(
            self.spec, rows, importance, out,
            plain=lambda chunk, target: weighted(chunk, NO_IMPORTANCE, target), weighted=weighted,
        )  # fmt: skip

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, eights_values("iq2_s", VALUES)))


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
        sigma = TWO * squares[block % SIDE_BY_SIDE] / F32(SUPERBLOCK)
        at = block * BYTES
        to[at : at + BYTES] = U8(0)
        top = ZERO
        for g in range(GROUPS):
            first = block * SUPERBLOCK + g * N
            if k:
                _weigh(x, first, importance, first % k, sigma, v)
            else:
                _weigh_plain(x, first, sigma, v)
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
            flip = 255 if scale < ZERO else 0
            scales[g] = abs(scale) if abs(scale) > ZERO else ZERO
            top = max(top, scales[g])
            for p in range(PARTS):
                point, i = book[0][chosen[p]], g * PARTS + p
                to[at + LOW + i] = U8(point & 255)
                to[at + SIGN + i] = U8(signs[p] ^ flip)
                to[at + HIGH + i // 4] |= U8((point >> 8) << (2 * (i % 4)))
        if top == ZERO:
            continue
        d = top / STEPS
        put_half(to, at, d * FUDGE)
        for b in range(GROUPS // 2):
            low, high = odd_step(ONE / d, scales[2 * b], 15), odd_step(ONE / d, scales[2 * b + 1], 15)
            to[at + SCALES + b] = U8(low | (high << 4))


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
                k = g * PARTS + p
                point = source[at + LOW + k] | (((source[at + HIGH + k // 4] >> (2 * (k % 4))) & 3) << 8)
                signs = source[at + SIGN + k]
                for i in range(EIGHT):
                    x[block * SUPERBLOCK + k * EIGHT + i] = scale * values[point, i] * SIGNS[signs, i]
