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

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.aligned import aligned
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
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scalars import F32, HALF, ONE, U8, ZERO
from quantrecipe.core.signed_eights import odd_step
from quantrecipe.core.signed_groups import load_signed
from quantrecipe.core.signs import SIGNS
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ2_S"]

FIVE, QUARTER = F32(5), F32(0.25)
EPSILON = F32(1e-8)  # ggml: GROUP_MAX_EPS_IQ2_S
STEPS = F32(31)
VALUES = (8, 25, 43)
FUDGE = F32(0.9875)  # ggml's, for the scale that is stored

BYTES = 82
LOW, SIGN, HIGH, SCALES = 2, 34, 66, 74
N = 16
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
SIDE_BY_SIDE = LANES // GROUPS
"""Super-blocks whose groups make up the lanes."""

_load = load_signed(N, even=False, sigma=2.0)
_search, _refit = eights_search(N, steps=9), eights_refit(N)


class IQ2_S(QuantFormat):  # noqa: N801  # the field's name
    """2.56 bits, eights of weights from a grid."""

    spec = FormatSpec(
        name="IQ2_S",
        ggml_type=22,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="advised",
        error_bound=0.33,
        fallback="IQ4_NL",
        file_type=28,  # LLAMA_FTYPE_MOSTLY_IQ2_S
        summary="2.56 bits from a grid of eights, the best of the 2-bit types",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq2_s", distances=1))
        return encode_rows(
            self.spec, rows, importance, out,
            plain=lambda chunk, target: weighted(chunk, NO_IMPORTANCE, target), weighted=weighted,
        )  # fmt: skip

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, eights_values("iq2_s", VALUES)))


@kernel(ENCODE_EIGHTS)
def _encode(book: Any, rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, terms = aligned(WORKSPACE), aligned(TERMS * LANES)
    scale, largest = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    signs, chosen, doubtful = (
        np.empty(PARTS * LANES, np.int32), np.empty(PARTS * LANES, np.int32), np.empty(PARTS * LANES, np.int32)
    )  # fmt: skip
    blocks = x.size // SUPERBLOCK
    for start in range(0, blocks, SIDE_BY_SIDE):
        count = min(SIDE_BY_SIDE, blocks - start)
        _load(x, importance, start, count, s, signs, largest)
        chosen[:], doubtful[:] = 0, 0
        for j in range(LANES):
            scale[j] = largest[j] / FIVE
            largest[j] = largest[j] if largest[j] >= EPSILON else ZERO
        _search(s, count * GROUPS, largest, book, scale, chosen, doubtful)
        _refit(s, count * GROUPS, terms, book, scale, chosen, doubtful)
        for block in range(count):
            _pack(book[0], scale, largest, signs, chosen, block * GROUPS, to, (start + block) * BYTES)


@kernel
def _pack(
    index: Any, scale: Any, largest: Any, signs: Any, chosen: Any, first: Any, to: Any, at: Any
) -> None:
    """Write one super-block, whose groups are in lanes from `first` on."""
    to[at : at + BYTES] = U8(0)
    top = ZERO
    for g in range(GROUPS):
        lane = first + g
        if not largest[lane] > ZERO:
            scale[lane] = ZERO
            continue
        flip = 255 if scale[lane] < ZERO else 0
        # What isn't a number comes of weights that overflow: ggml aborts.
        scale[lane] = abs(scale[lane]) if abs(scale[lane]) > ZERO else ZERO
        top = max(top, scale[lane])
        for p in range(PARTS):
            point, i = index[chosen[p * LANES + lane]], g * PARTS + p
            to[at + LOW + i] = U8(point & 255)
            to[at + SIGN + i] = U8(signs[p * LANES + lane] ^ flip)
            to[at + HIGH + i // 4] |= U8((point >> 8) << (2 * (i % 4)))
    if top == ZERO:
        return
    d = top / STEPS
    put_half(to, at, d * FUDGE)
    for b in range(GROUPS // 2):
        low, high = (
            odd_step(ONE / d, scale[first + 2 * b], 15),
            odd_step(ONE / d, scale[first + 2 * b + 1], 15),
        )
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
