"""IQ1_M: eights of weights from a grid of 2048 points, each with a shift, and a 3-bit scale for 16 weights.

    256 weights → 32 × lower 8 bits of a point, 16 × twice upper 3 bits and shift, 4 × u16 of scales (56 bytes)
    byte k                 lower bits of the point of weights 8 k on
    byte 32 + g            weights 16 g on: bits 0 to 2 the upper bits of the point, bit 3 set where the shift is
                           negative; bits 4 to 7 the same of weights 16 g + 8 on
    u16 at byte 48 + 2 b   bits 3 l to 3 l + 2 the scale of weights 64 b + 16 l on; bits 12 to 15 a part of d, a f16:
                           its lowest four bits in the first

    x ≈ d * (2 scale + 1) * (point ± 0.125), in a point -1, 0 or 1

ggml: block_iq1_m, quantize_row_iq1_m_impl. The grid is in `core/grids/tables/iq1.grid`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core import f16_bits, f16_value, kernel
from quantrecipe.core.grids.iq1_cuts import sum_in_order
from quantrecipe.core.grids.iq1_kernels import LOWEST, STEPS, VALUES, better_cut, iq1_kernels
from quantrecipe.core.grids.iq1_points import SHIFT
from quantrecipe.core.grids.points_of_eight import DECODE_EIGHTS, EIGHT, eights_values, odd_step
from quantrecipe.core.jit import POINT_PUT, POINT_SCALES, disjoint_kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.kernel_format import PointKernels
from quantrecipe.core.lanes import LANES, WT, X
from quantrecipe.core.scalars import F32, ONE, U8, U32, ZERO, Bytes, Float, Floats, Int, Ints

__all__ = ["KERNELS"]

EPSILON = 1e-7  # ggml: GROUP_MAX_EPS_IQ1_M
RAISED = F32(1.1125)
"""ggml stores d a little larger than the fit says."""
FIRST, SECOND = F32(2), F32(1)  # the shift of the first half is negative, of the second

HIGH, SCALES = 32, 48
N, BYTES = 16, 56
GROUPS, PARTS = SUPERBLOCK // N, N // EIGHT

_sum_in_order = sum_in_order(N)


@kernel
def _cut(s: Floats, ranks: Ints, best: Floats) -> None:
    size = (N + 1) * LANES
    sx0, sw0 = np.empty(size, np.float32), np.empty(size, np.float32)
    sx1, sw1 = np.empty(size, np.float32), np.empty(size, np.float32)
    _sum_in_order(s, ranks, 0, EIGHT, sx0, sw0)
    _sum_in_order(s, ranks, EIGHT, N, sx1, sw1)
    _try_cuts(sx0, sw0, sx1, sw1, best)


@disjoint_kernel
def _try_cuts(sx0: Floats, sw0: Floats, sx1: Floats, sw1: Floats, best: Floats) -> None:
    """Try every pair of cuts with both shifts of either half."""
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
            choice = F32(256 * low + 4 * high)
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
                caught, scale, chosen = better_cut(xp0 + xp1, wp0 + wp1, choice, caught, scale, chosen)
                caught, scale, chosen = better_cut(
                    xp0 + xm1, wp0 + wm1, choice + SECOND, caught, scale, chosen
                )
                caught, scale, chosen = better_cut(
                    xm0 + xp1, wm0 + wp1, choice + FIRST, caught, scale, chosen
                )
                caught, scale, chosen = better_cut(
                    xm0 + xm1, wm0 + wm1, choice + (FIRST + SECOND), caught, scale, chosen
                )
                best[j], best[LANES + j], best[2 * LANES + j] = caught, scale, chosen


@kernel
def _pack(
    index: Ints, s: Floats, scale: Floats, shift: Floats, codes: Ints, first: Int, to: Bytes, at: Int
) -> None:
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
    half = f16_bits(d * RAISED)
    for b in range(4):
        to[at + SCALES + 2 * b + 1] |= U8(((half >> U32(4 * b)) & U32(15)) << U32(4))


@kernel
def _get_d(source: Bytes, at: Int) -> Float:
    half = U32(0)
    for b in range(4):
        half |= U32(U32(source[at + SCALES + 2 * b + 1] >> U8(4)) << U32(4 * b))
    return f16_value(half)


@kernel
def _get_scale(source: Bytes, at: Int, d: Float, g: Int) -> Float:
    word = source[at + SCALES + 2 * (g // 4)] | (source[at + SCALES + 2 * (g // 4) + 1] << 8)
    return d * F32(2 * ((word >> (3 * (g % 4))) & 7) + 1)


@kernel(DECODE_EIGHTS)
def _decode(values: Floats, data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        d = _get_d(source, at)
        for g in range(GROUPS):
            scale = _get_scale(source, at, d, g)
            for k in range(PARTS):
                upper = source[at + HIGH + g] >> (4 * k)
                point = source[at + g * PARTS + k] | ((upper & 7) << 8)
                delta = -SHIFT if upper & 8 else SHIFT
                for i in range(EIGHT):
                    x[block * SUPERBLOCK + g * N + k * EIGHT + i] = scale * (values[point, i] + delta)


@cache
def _points() -> NDArray[np.float32]:
    """All points with the shift up, then all with the shift down: each eight has a shift of its own."""
    plain = eights_values("iq1", VALUES)
    both = np.concatenate([plain + SHIFT, plain - SHIFT])
    both.flags.writeable = False
    return both


@kernel(POINT_SCALES)
def _scales(data: Bytes, scales: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    for block in range(to.size // GROUPS):
        d = _get_d(source, block * BYTES)
        for g in range(GROUPS):
            to[block * GROUPS + g] = _get_scale(source, block * BYTES, d, g)


@kernel(POINT_PUT)
def _put(choices: Ints, signs: Bytes, data: Bytes) -> None:
    points, to = choices.reshape(choices.size), data.reshape(data.size)
    for i in range(points.size // PARTS):
        at, g = i // GROUPS * BYTES, i % GROUPS
        # The number of a point, its upper bits first: one that says which shift, then three.
        first, second = np.int64(points[i * PARTS]), np.int64(points[i * PARTS + 1])
        to[at + g * PARTS], to[at + g * PARTS + 1] = U8(first & 255), U8(second & 255)
        to[at + HIGH + g] = U8((first >> 8) | ((second >> 8) << 4))


KERNELS = iq1_kernels(
    n=N, block_bytes=BYTES, epsilon=EPSILON, no_code=0, needs_importance=False,
    cut=_cut, pack=_pack, decode=_decode,
    grid=PointKernels(points=_points, group=N, signed=True, scales=_scales, put=_put),
)  # fmt: skip
