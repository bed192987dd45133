"""IQ1_M: eights of weights from a grid of 2048 points, each with a shift, and a 3-bit scale for 16 weights.

    256 weights → 32 × lower 8 bits of a point, 16 × twice upper 3 bits and shift, 4 × u16 of scales (56 bytes)
    byte k                 lower bits of the point of weights 8 k on
    byte 32 + g            weights 16 g on: bits 0 to 2 the upper bits of the point, bit 3 set where the shift is
                           negative; bits 4 to 7 the same of weights 16 g + 8 on
    u16 at byte 48 + 2 b   bits 3 l to 3 l + 2 the scale of weights 64 b + 16 l on; bits 12 to 15 a part of d, a f16:
                           its lowest four bits in the first

    x ≈ d * (2 scale + 1) * (point ± 0.125), in a point -1, 0 or 1

ggml: block_iq1_m, quantize_row_iq1_m_impl. The grid is in `core/tables/iq1.grid`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows, f16_bits, f16_value, kernel
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
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    WT,
    X,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, I32, ONE, TWO, U8, U32, ZERO
from quantrecipe.core.signed_eights import odd_step
from quantrecipe.core.superblock import SUPERBLOCK
from quantrecipe.core.ternary_points import SHIFT, fit_points, to_points
from quantrecipe.core.ternary_split import rank_groups, split_codes, sum_in_order

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ1_M"]

LOWEST = -F32(np.finfo(np.float32).max)
EPSILON = F32(1e-7)  # ggml: GROUP_MAX_EPS_IQ1_M
FUDGE = F32(1.1125)  # ggml's, for the scale that is stored
STEPS = F32(15)
VALUES = (-1, 0, 1)

BYTES = 56
HIGH, SCALES = 32, 48
N = 16
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
SIDE_BY_SIDE = LANES // GROUPS
"""Super-blocks whose groups make up the lanes."""

_load, _load_importance, _weigh = load_groups(N), load_importance(N), weigh_by_size(N)
_rank, _sum_in_order, _split = rank_groups(N), sum_in_order(N), split_codes(N)
_to_points, _fit = to_points(N), fit_points(N)


class IQ1_M(QuantFormat):  # noqa: N801  # the field's name
    """1.75 bits, eights of weights from a grid of three values."""

    spec = FormatSpec(
        name="IQ1_M",
        ggml_type=29,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16", at=(49, 51, 53, 55)),),
        importance="advised",
        error_bound=0.59,
        fallback="IQ4_NL",
        file_type=31,  # LLAMA_FTYPE_MOSTLY_IQ1_M
        summary="1.75 bits, three values from a grid of eights",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq1", distances=3))
        return encode_rows(
            self.spec, rows, importance, out,
            plain=lambda chunk, target: weighted(chunk, NO_IMPORTANCE, target), weighted=weighted,
        )  # fmt: skip

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, partial(_decode, eights_values("iq1", VALUES)))


@kernel(ENCODE_EIGHTS)
def _encode(book: Any, rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, squares, sigma = (
        aligned(WORKSPACE),
        np.empty(SIDE_BY_SIDE, np.float32),
        np.zeros(LANES, np.float32),
    )
    ranks, codes = np.zeros(N * LANES, np.int32), np.zeros(PARTS * LANES, np.int32)
    size = (N + 1) * LANES
    sx0, sw0, sx1, sw1 = (
        np.empty(size, np.float32), np.empty(size, np.float32),
        np.empty(size, np.float32), np.empty(size, np.float32),
    )  # fmt: skip
    best = np.empty(3 * LANES, np.float32)
    low, high, mirror = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32), np.zeros(LANES, np.int32)
    scale, shift, moved = (
        np.zeros(LANES, np.float32),
        np.zeros(PARTS * LANES, np.float32),
        np.zeros(LANES, np.int32),
    )
    terms = aligned(TERMS * LANES)
    blocks = x.size // SUPERBLOCK
    for start in range(0, blocks, SIDE_BY_SIDE):
        count = min(SIDE_BY_SIDE, blocks - start)
        filled = count * GROUPS
        _load(x, start * GROUPS, filled, s)
        if importance.size:
            _load_importance(importance, start * GROUPS, filled, s)
            sums_of_squares(x, start, count, SUPERBLOCK, squares)
            for j in range(LANES):
                sigma[j] = TWO * squares[min(j, filled - 1) // GROUPS] / F32(SUPERBLOCK)
            _weigh(sigma, s)
        else:
            for i in range(N * LANES):
                s[WT + i] = s[X + i] * s[X + i]
        _rank(s, ranks)
        _sum_in_order(s, ranks, 0, EIGHT, sx0, sw0)
        _sum_in_order(s, ranks, EIGHT, N, sx1, sw1)
        _cut(sx0, sw0, sx1, sw1, best)
        for j in range(LANES):
            choice = np.int64(best[2 * LANES + j])
            mirrored = best[LANES + j] < ZERO
            scale[j] = abs(best[LANES + j])
            low[j], high[j], mirror[j] = I32(choice >> 7), I32((choice >> 2) & 31), I32(mirrored)
            shift[j] = SHIFT if (choice & 2 == 0) != mirrored else -SHIFT
            shift[LANES + j] = SHIFT if (choice & 1 == 0) != mirrored else -SHIFT
        _split(ranks, low, high, mirror, codes)
        _to_points(s, filled, scale, shift, codes, moved, terms, book)
        _fit(s, shift, codes, moved, best, scale)
        # A choice below zero is no choice; what isn't a number is neither, and ggml aborts.
        for j in range(filled):
            largest = ZERO
            for i in range(N):
                largest = max(largest, abs(s[X + i * LANES + j]))
            if largest < EPSILON or low[j] < 0:
                scale[j] = ZERO
                shift[j], shift[LANES + j] = SHIFT, SHIFT
                codes[j], codes[LANES + j] = I32(0), I32(0)  # point 0
            scale[j] = scale[j] if scale[j] > ZERO else ZERO
        for block in range(count):
            _pack(book[0], s, scale, shift, codes, block * GROUPS, to, (start + block) * BYTES)


@disjoint_kernel
def _cut(sx0: Any, sw0: Any, sx1: Any, sw1: Any, best: Any) -> None:
    """Try every pair of cuts with each half's both shifts.

    best: what is caught; scale; 128 low + 4 high + 2 (the first shift is negative) + (the second is).
    """
    last = N * LANES
    low_p, mid_p, high_p = SHIFT - ONE, SHIFT, SHIFT + ONE
    low_m, mid_m, high_m = -SHIFT - ONE, -SHIFT, ONE - SHIFT
    first_p, second_p = low_p * low_p - mid_p * mid_p, mid_p * mid_p - high_p * high_p
    first_m, second_m = low_m * low_m - mid_m * mid_m, mid_m * mid_m - high_m * high_m
    for j in range(LANES):
        best[j] = LOWEST
        best[LANES + j] = ZERO
        best[2 * LANES + j] = -ONE
    for low in range(N + 1):
        for high in range(low, N + 1):
            choice = F32(128 * low + 4 * high)
            for j in range(LANES):
                a, b, t = low * LANES + j, high * LANES + j, last + j
                caught, scale, chosen = best[j], best[LANES + j], best[2 * LANES + j]
                x0, x1 = sx0[a] + sx0[b], sx1[a] + sx1[b]
                xp0, xm0 = sx0[t] * high_p - x0, sx0[t] * high_m - x0
                xp1, xm1 = sx1[t] * high_p - x1, sx1[t] * high_m - x1
                wp0 = sw0[t] * high_p * high_p + sw0[a] * first_p + sw0[b] * second_p
                wm0 = sw0[t] * high_m * high_m + sw0[a] * first_m + sw0[b] * second_m
                wp1 = sw1[t] * high_p * high_p + sw1[a] * first_p + sw1[b] * second_p
                wm1 = sw1[t] * high_m * high_m + sw1[a] * first_m + sw1[b] * second_m

                sxl, sl2 = xp0 + xp1, wp0 + wp1
                better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
                fitting = sxl / sl2
                scale = fitting if better else scale
                caught = fitting * sxl if better else caught
                chosen = choice if better else chosen

                sxl, sl2 = xp0 + xm1, wp0 + wm1
                better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
                fitting = sxl / sl2
                scale = fitting if better else scale
                caught = fitting * sxl if better else caught
                chosen = choice + F32(1) if better else chosen

                sxl, sl2 = xm0 + xp1, wm0 + wp1
                better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
                fitting = sxl / sl2
                scale = fitting if better else scale
                caught = fitting * sxl if better else caught
                chosen = choice + F32(2) if better else chosen

                sxl, sl2 = xm0 + xm1, wm0 + wm1
                better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
                fitting = sxl / sl2
                best[LANES + j] = fitting if better else scale
                best[j] = fitting * sxl if better else caught
                best[2 * LANES + j] = choice + F32(3) if better else chosen


@kernel
def _pack(index: Any, s: Any, scale: Any, shift: Any, codes: Any, first: Any, to: Any, at: Any) -> None:
    """Write one super-block, whose groups are in lanes from `first` on, and whose points are known."""
    to[at : at + BYTES] = U8(0)
    top = ZERO
    for g in range(GROUPS):
        lane = first + g
        top = max(top, scale[lane])
        for k in range(PARTS):
            point = index[codes[k * LANES + lane]]
            to[at + g * PARTS + k] = U8(point & 255)
            to[at + HIGH + g] |= U8((point >> 8) << (4 * k))
    if not top > ZERO:
        return
    d = top / STEPS
    inverse = ONE / d
    sxl, sl2 = ZERO, ZERO
    for g in range(GROUPS):
        lane = first + g
        step = odd_step(inverse, scale[lane], 7)
        bits = step << (3 * (g % 4))
        to[at + SCALES + 2 * (g // 4)] |= U8(bits & 255)
        to[at + SCALES + 2 * (g // 4) + 1] |= U8(bits >> 8)
        for k in range(PARTS):
            delta, code = shift[k * LANES + lane], codes[k * LANES + lane]
            to[at + HIGH + g] |= U8((8 if delta < ZERO else 0) << (4 * k))
            for i in range(EIGHT):
                q = (F32((code >> (2 * i)) & 3) - ONE + delta) * F32(2 * step + 1)
                w, x = s[WT + (EIGHT * k + i) * LANES + lane], s[X + (EIGHT * k + i) * LANES + lane]
                sxl += w * q * x
                sl2 += w * q * q
    d = sxl / sl2 if sl2 > ZERO else d
    half = f16_bits(d * FUDGE)
    for b in range(4):
        to[at + SCALES + 2 * b + 1] |= U8(((half >> U32(4 * b)) & U32(15)) << U32(4))


@kernel(DECODE_EIGHTS)
def _decode(values: Any, data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        half = U32(0)
        for b in range(4):
            half |= U32(U32(source[at + SCALES + 2 * b + 1] >> U8(4)) << U32(4 * b))
        d = f16_value(half)
        for g in range(GROUPS):
            word = source[at + SCALES + 2 * (g // 4)] | (source[at + SCALES + 2 * (g // 4) + 1] << 8)
            scale = d * F32(2 * ((word >> (3 * (g % 4))) & 7) + 1)
            for k in range(PARTS):
                upper = source[at + HIGH + g] >> (4 * k)
                point = source[at + g * PARTS + k] | ((upper & 7) << 8)
                delta = -SHIFT if upper & 8 else SHIFT
                for i in range(EIGHT):
                    x[block * SUPERBLOCK + g * N + k * EIGHT + i] = scale * (values[point, i] + delta)
