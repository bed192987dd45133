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

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.aligned import aligned
from quantrecipe.core.eights import DECODE_EIGHTS, EIGHT, ENCODE_EIGHTS, TERMS, eights_tables, eights_values
from quantrecipe.core.grid_of_eights import eights_refit, eights_search
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scalars import F32, HALF, ONE, U8, U32, ZERO
from quantrecipe.core.signed_eights import odd_step
from quantrecipe.core.signed_groups import load_signed
from quantrecipe.core.signs import SIGNS, even
from quantrecipe.core.superblock import SUPERBLOCK

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ2_XS"]

FIVE, QUARTER = F32(5), F32(0.25)
EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
STEPS = F32(31)
VALUES = (8, 25, 43)

BYTES = 74
CODES, SCALES = 2, 66
N = 16
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
SIDE_BY_SIDE = LANES // GROUPS
"""Super-blocks whose groups make up the lanes."""

_load = load_signed(N, even=True, sigma=1.0)
_search, _refit = eights_search(N, steps=9), eights_refit(N)


class IQ2_XS(QuantFormat):  # noqa: N801  # the field's name
    """2.31 bits, eights of weights from a grid."""

    spec = FormatSpec(
        name="IQ2_XS",
        ggml_type=17,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="required",
        error_bound=0.36,
        fallback="IQ4_NL",
        file_type=20,  # LLAMA_FTYPE_MOSTLY_IQ2_XS
        summary="2.31 bits from a grid of eights; needs importance",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq2_xs", distances=2))
        return encode_rows(self.spec, rows, importance, out, plain=None, weighted=weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, eights_values("iq2_xs", VALUES)))


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
        flip = 127 if scale[lane] < ZERO else 0
        # What isn't a number comes of weights that overflow: ggml aborts.
        scale[lane] = abs(scale[lane]) if abs(scale[lane]) > ZERO else ZERO
        top = max(top, scale[lane])
        for p in range(PARTS):
            pair = index[chosen[p * LANES + lane]] | (((signs[p * LANES + lane] ^ flip) & 127) << 9)
            to[at + CODES + 2 * (g * PARTS + p)] = U8(pair & 255)
            to[at + CODES + 2 * (g * PARTS + p) + 1] = U8(pair >> 8)
    if top == ZERO:
        to[at : at + BYTES] = U8(0)
        return
    d = top / STEPS
    put_half(to, at, d)
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
                low, high = source[at + CODES + 4 * g + 2 * p], source[at + CODES + 4 * g + 2 * p + 1]
                point, signs = low | ((high & 1) << 8), even(U32(high >> 1))
                for i in range(EIGHT):
                    to = block * SUPERBLOCK + g * N + p * EIGHT + i
                    x[to] = scale * values[point, i] * SIGNS[signs, i]
