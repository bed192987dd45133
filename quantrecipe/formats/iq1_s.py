"""IQ1_S: eights of weights from a grid of 2048 points, with a 3-bit scale and a shift for 32 weights.

    256 weights → f16 d, 32 × lower 8 bits of a point, 8 × u16 (50 bytes)
    byte 2 + k             lower bits of the point of weights 8 k on
    u16 at byte 34 + 2 g   of weights 32 g on: bits 3 k to 3 k + 2 the upper bits of the k-th point, bits 12 to 14 the
                           scale, bit 15 set where the shift is negative

    x ≈ d * (2 scale + 1) * (point ± 0.125), in a point -1, 0 or 1

ggml: block_iq1_s, quantize_row_iq1_s_impl. The grid is in `core/tables/iq1.grid`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import decode_rows, encode_rows, kernel
from quantrecipe.core.aligned import aligned
from quantrecipe.core.eights import DECODE_EIGHTS, EIGHT, ENCODE_EIGHTS, TERMS, eights_tables, eights_values
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    X,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, I32, ONE, TWO, U8, ZERO
from quantrecipe.core.signed_eights import odd_step
from quantrecipe.core.superblock import SUPERBLOCK
from quantrecipe.core.ternary_points import SHIFT, fit_points, to_points
from quantrecipe.core.ternary_split import rank_groups, split_codes, sum_in_order

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["IQ1_S"]

LOWEST = -F32(np.finfo(np.float32).max)
EPSILON = F32(1e-12)  # ggml: GROUP_MAX_EPS_IQ1_S
FUDGE = F32(1.125)  # ggml's, for the scale that is stored
STEPS = F32(15)
VALUES = (-1, 0, 1)

BYTES = 50
LOW, HIGH = 2, 34
N = 32
GROUPS = SUPERBLOCK // N
PARTS = N // EIGHT
SIDE_BY_SIDE = LANES // GROUPS
"""Super-blocks whose groups make up the lanes."""

_load, _load_importance, _weigh = load_groups(N), load_importance(N), weigh_by_size(N)
_rank, _sum_in_order, _split = rank_groups(N), sum_in_order(N), split_codes(N)
_to_points, _fit = to_points(N), fit_points(N)


class IQ1_S(QuantFormat):  # noqa: N801  # the field's name
    """1.56 bits, eights of weights from a grid of three values."""

    spec = FormatSpec(
        name="IQ1_S",
        ggml_type=19,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="required",
        error_bound=0.58,
        fallback="IQ4_NL",
        file_type=24,  # LLAMA_FTYPE_MOSTLY_IQ1_S
        summary="1.56 bits, three values from a grid of eights; needs importance",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        weighted = partial(_encode, eights_tables("iq1", distances=3))
        return encode_rows(self.spec, rows, importance, out, plain=None, weighted=weighted)

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
    sx, sw = np.empty((N + 1) * LANES, np.float32), np.empty((N + 1) * LANES, np.float32)
    rests, best = np.empty(4 * (N + 1) * LANES, np.float32), np.empty(3 * LANES, np.float32)
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
        _load_importance(importance, start * GROUPS, filled, s)
        sums_of_squares(x, start, count, SUPERBLOCK, squares)
        for j in range(LANES):
            sigma[j] = TWO * squares[min(j, filled - 1) // GROUPS] / F32(SUPERBLOCK)
        _weigh(sigma, s)
        _rank(s, ranks)
        _sum_in_order(s, ranks, 0, N, sx, sw)
        _cut(sx, sw, rests, best)
        for j in range(LANES):
            choice = np.int64(best[2 * LANES + j])
            mirrored = best[LANES + j] < ZERO
            scale[j] = abs(best[LANES + j])
            low[j], high[j], mirror[j] = I32(choice >> 7), I32((choice >> 1) & 63), I32(mirrored)
            delta = SHIFT if (choice & 1 == 0) != mirrored else -SHIFT
            for k in range(PARTS):
                shift[k * LANES + j] = delta
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
                shift[j] = SHIFT
                for k in range(PARTS):
                    codes[k * LANES + j] = -1
            scale[j] = scale[j] if scale[j] > ZERO else ZERO
        for block in range(count):
            _pack(book[0], scale, shift, codes, block * GROUPS, to, (start + block) * BYTES)


@disjoint_kernel
def _cut(sx: Any, sw: Any, rests: Any, best: Any) -> None:
    """Try every pair of cuts with both shifts. best: what is caught; scale; 128 low + 2 high + (shift is negative)."""
    last = N * LANES
    low_p, mid_p, high_p = SHIFT - ONE, SHIFT, SHIFT + ONE
    low_m, mid_m, high_m = -SHIFT - ONE, -SHIFT, ONE - SHIFT
    size = (N + 1) * LANES
    for i in range(size):
        j = i % LANES
        rests[i] = (sx[last + j] - sx[i]) * high_p
        rests[size + i] = (sx[last + j] - sx[i]) * high_m
        rests[2 * size + i] = (sw[last + j] - sw[i]) * high_p * high_p
        rests[3 * size + i] = (sw[last + j] - sw[i]) * high_m * high_m
    for j in range(LANES):
        best[j] = LOWEST
        best[LANES + j] = ZERO
        best[2 * LANES + j] = -ONE
    for low in range(N + 1):
        for high in range(low, N + 1):
            choice = F32(128 * low + 2 * high)
            for j in range(LANES):
                a, b = low * LANES + j, high * LANES + j
                x_mid, w_mid = sx[b] - sx[a], sw[b] - sw[a]
                caught, scale, chosen = best[j], best[LANES + j], best[2 * LANES + j]

                sxl = sx[a] * low_p + x_mid * mid_p + rests[b]
                sl2 = sw[a] * low_p * low_p + w_mid * mid_p * mid_p + rests[2 * size + b]
                better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
                fitting = sxl / sl2
                scale = fitting if better else scale
                caught = fitting * sxl if better else caught
                chosen = choice if better else chosen

                sxl = sx[a] * low_m + x_mid * mid_m + rests[size + b]
                sl2 = sw[a] * low_m * low_m + w_mid * mid_m * mid_m + rests[3 * size + b]
                better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
                fitting = sxl / sl2
                best[LANES + j] = fitting if better else scale
                best[j] = fitting * sxl if better else caught
                best[2 * LANES + j] = choice + ONE if better else chosen


@kernel
def _pack(index: Any, scale: Any, shift: Any, codes: Any, first: Any, to: Any, at: Any) -> None:
    to[at : at + BYTES] = U8(0)
    top = ZERO
    for g in range(GROUPS):
        top = max(top, scale[first + g])
        upper = 0
        for k in range(PARTS):
            code = codes[k * LANES + first + g]
            if code >= 0:
                to[at + LOW + g * PARTS + k] = U8(index[code] & 255)
                upper |= (index[code] >> 8) << (3 * k)
        to[at + HIGH + 2 * g] = U8(upper & 255)
        to[at + HIGH + 2 * g + 1] = U8(upper >> 8)
    if top > ZERO:
        d = top / STEPS
        put_half(to, at, d * FUDGE)
        for g in range(GROUPS):
            step = odd_step(ONE / d, scale[first + g], 7) | (8 if shift[first + g] < ZERO else 0)
            to[at + HIGH + 2 * g + 1] |= U8(step << 4)


@kernel(DECODE_EIGHTS)
def _decode(values: Any, data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        d = get_half(source, at)
        for g in range(GROUPS):
            packed = source[at + HIGH + 2 * g] | (source[at + HIGH + 2 * g + 1] << 8)
            scale = d * F32(2 * ((packed >> 12) & 7) + 1)
            delta = -SHIFT if packed & 0x8000 else SHIFT
            for k in range(PARTS):
                point = source[at + LOW + g * PARTS + k] | (((packed >> (3 * k)) & 7) << 8)
                for i in range(EIGHT):
                    x[block * SUPERBLOCK + g * N + k * EIGHT + i] = scale * (values[point, i] + delta)
