"""IQ2_XXS: eights of weights from a grid of 256 points, with a 4-bit scale and signs for 32 weights.

    256 weights → f16 d, 8 × (4 × index of a point, u32 of signs and scale) (66 bytes)
    byte 2 + 8 g + k      the point of weights 32 g + 8 k on
    u32 at byte 6 + 8 g   bits 7 k to 7 k + 6 the signs of weights 32 g + 8 k on, but for the eighth, which makes the
                          number of negative ones even; bits 28 to 31 the scale

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

ggml: block_iq2_xxs, quantize_row_iq2_xxs_impl. The grid is in `core/tables/iq2_xxs.grid`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.aligned import aligned
from quantrecipe.core.eights import DECODE_EIGHTS, EIGHT, ENCODE_EIGHTS, TERMS, eights_tables, eights_values
from quantrecipe.core.grid_of_eights import eights_refit, eights_search
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import LANES, WORKSPACE, WT, X
from quantrecipe.core.scalars import F32, HALF, ONE, U8, U32, ZERO
from quantrecipe.core.scale_positive import COMMON, COUNTS, IN, TABLE, positive_scale_search
from quantrecipe.core.signed_eights import odd_step
from quantrecipe.core.signed_groups import load_signed
from quantrecipe.core.signs import SIGNS, even
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ2_XXS"]

QUARTER, THREE = F32(0.25), F32(3)
EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
STEPS = F32(31)
VALUES = (8, 25, 43)

BYTES = 66
N = 32
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
SIDE_BY_SIDE = LANES // GROUPS
"""Super-blocks whose groups make up the lanes."""

_load = load_signed(N, even=True, sigma=1.0)
_first_search = positive_scale_search(N, 4)
_search, _refit = eights_search(N, steps=6), eights_refit(N)


class IQ2_XXS(QuantFormat):  # noqa: N801  # the field's name
    """2.06 bits, eights of weights from a grid."""

    spec = FormatSpec(
        name="IQ2_XXS",
        ggml_type=16,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="required",
        error_bound=0.42,
        fallback="IQ4_NL",
        file_type=19,  # LLAMA_FTYPE_MOSTLY_IQ2_XXS
        summary="2.06 bits from a grid of eights; needs importance",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq2_xxs", distances=2))
        return encode_rows(self.spec, rows, importance, out, plain=None, weighted=weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, eights_values("iq2_xxs", VALUES)))


@kernel(ENCODE_EIGHTS)
def _encode(book: Any, rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, terms = aligned(WORKSPACE), aligned(TERMS * LANES)
    scale, largest = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    signs, chosen, doubtful = (
        np.empty(PARTS * LANES, np.int32), np.empty(PARTS * LANES, np.int32), np.empty(PARTS * LANES, np.int32)
    )  # fmt: skip
    table = np.zeros(TABLE, np.float32)
    blocks = x.size // SUPERBLOCK
    for start in range(0, blocks, SIDE_BY_SIDE):
        count = min(SIDE_BY_SIDE, blocks - start)
        _load(x, importance, start, count, s, signs, largest)
        chosen[:] = 0
        for i in range(N * LANES):
            table[IN + i], table[COUNTS + i] = s[X + i], s[WT + i]
        _first_search(table)
        for j in range(LANES):
            scale[j] = table[COMMON + j]
            largest[j] = scale[j] * THREE if largest[j] >= EPSILON else ZERO
        _search(s, count * GROUPS, largest, book, scale, chosen, doubtful)
        doubtful[:] = 1
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
        flip = 127 if scale[lane] < ZERO else 0
        # What isn't a number comes of weights that overflow: ggml aborts.
        scale[lane] = abs(scale[lane]) if abs(scale[lane]) > ZERO else ZERO
        top = max(top, scale[lane])
        packed = 0
        for p in range(PARTS):
            to[at + 2 + 8 * g + p] = U8(index[chosen[p * LANES + lane]])
            packed |= ((signs[p * LANES + lane] ^ flip) & 127) << (7 * p)
        for b in range(4):
            to[at + 6 + 8 * g + b] = U8((packed >> (8 * b)) & 255)
    if top == ZERO:
        to[at : at + BYTES] = U8(0)
        return
    d = top / STEPS
    put_half(to, at, d)
    for g in range(GROUPS):
        to[at + 9 + 8 * g] |= U8(odd_step(ONE / d, scale[first + g], 15) << 4)


@kernel(DECODE_EIGHTS)
def _decode(values: Any, data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        d = get_half(source, block * BYTES)
        for g in range(GROUPS):
            at = block * BYTES + 2 + 8 * g
            packed = U32(0)
            for b in range(4):
                packed |= U32(U32(source[at + 4 + b]) << U32(8 * b))
            scale = d * (HALF + F32(packed >> U32(28))) * QUARTER
            for p in range(PARTS):
                point, signs = source[at + p], even(U32(packed >> U32(7 * p)) & U32(127))
                for i in range(EIGHT):
                    to = block * SUPERBLOCK + g * N + p * EIGHT + i
                    x[to] = scale * values[point, i] * SIGNS[signs, i]
