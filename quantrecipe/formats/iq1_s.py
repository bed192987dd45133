"""IQ1_S: eights of weights from a grid of 2048 points, with a 3-bit scale and a shift for 32 weights.

    256 weights → f16 d, 32 × lower 8 bits of a point, 8 × u16 (50 bytes)
    byte 2 + k             lower bits of the point of weights 8 k on
    u16 at byte 34 + 2 g   of weights 32 g on: bits 3 k to 3 k + 2 the upper bits of the k-th point, bits 12 to 14 the
                           scale, bit 15 set where the shift is negative

    x ≈ d * (2 scale + 1) * (point ± 0.125), in a point -1, 0 or 1

ggml: block_iq1_s, quantize_row_iq1_s_impl. The grid is in `core/grids/tables/iq1.grid`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from quantrecipe.core import kernel
from quantrecipe.core.grids.iq1_cuts import sum_in_order
from quantrecipe.core.grids.iq1_kernels import LOWEST, STEPS, VALUES, better_cut, iq1_kernels
from quantrecipe.core.grids.iq1_points import SHIFT
from quantrecipe.core.grids.points_of_eight import DECODE_EIGHTS, EIGHT, eights_values, odd_step
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import POINT_PUT, POINT_SCALES, disjoint_kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.kernel_format import PointKernels
from quantrecipe.core.lanes import LANES
from quantrecipe.core.scalars import F32, ONE, U8, ZERO, Bytes, Floats, Int, Ints

__all__ = ["KERNELS"]

EPSILON = 1e-12  # ggml: GROUP_MAX_EPS_IQ1_S
RAISED = F32(1.125)
"""ggml stores d a little larger than the fit says."""
BOTH = F32(3)  # the shifts of both halves are negative

LOW, HIGH = 2, 34
N, BYTES = 32, 50
GROUPS, PARTS = SUPERBLOCK // N, N // EIGHT

_sum_in_order = sum_in_order(N)


@kernel
def _cut(s: Floats, ranks: Ints, best: Floats) -> None:
    size = (N + 1) * LANES
    sx, sw, rests = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(4 * size, np.float32)
    _sum_in_order(s, ranks, 0, N, sx, sw)
    _try_cuts(sx, sw, rests, best)


@disjoint_kernel
def _try_cuts(sx: Floats, sw: Floats, rests: Floats, best: Floats) -> None:
    """Try every pair of cuts with both shifts of the group."""
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
            choice = F32(256 * low + 4 * high)
            for j in range(LANES):
                a, b = low * LANES + j, high * LANES + j
                x_mid, w_mid = sx[b] - sx[a], sw[b] - sw[a]
                caught, scale, chosen = best[j], best[LANES + j], best[2 * LANES + j]
                sxl = sx[a] * low_p + x_mid * mid_p + rests[b]
                sl2 = sw[a] * low_p * low_p + w_mid * mid_p * mid_p + rests[2 * size + b]
                caught, scale, chosen = better_cut(sxl, sl2, choice, caught, scale, chosen)
                sxl = sx[a] * low_m + x_mid * mid_m + rests[size + b]
                sl2 = sw[a] * low_m * low_m + w_mid * mid_m * mid_m + rests[3 * size + b]
                caught, scale, chosen = better_cut(sxl, sl2, choice + BOTH, caught, scale, chosen)
                best[j], best[LANES + j], best[2 * LANES + j] = caught, scale, chosen


@kernel
def _pack(
    index: Ints, s: Floats, scale: Floats, shift: Floats, codes: Ints, first: Int, to: Bytes, at: Int
) -> None:
    """Write one super-block, whose groups are in lanes from `first` on."""
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
        put_half(to, at, d * RAISED)
        for g in range(GROUPS):
            step = odd_step(ONE / d, scale[first + g], 7) | (8 if shift[first + g] < ZERO else 0)
            to[at + HIGH + 2 * g + 1] |= U8(step << 4)


@kernel(DECODE_EIGHTS)
def _decode(values: Floats, data: Bytes, rows: Floats) -> None:
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


@kernel(POINT_SCALES)
def _scales(data: Bytes, scales: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    for block in range(to.size // GROUPS):
        d = get_half(source, block * BYTES)
        for g in range(GROUPS):
            step = (source[block * BYTES + HIGH + 2 * g + 1] >> 4) & 7
            to[block * GROUPS + g] = d * F32(2 * step + 1)


@kernel(POINT_SCALES)
def _shifts(data: Bytes, shifts: Floats) -> None:
    source, to = data.reshape(data.size), shifts.reshape(shifts.size)
    for i in range(to.size):
        upper = source[i // GROUPS * BYTES + HIGH + 2 * (i % GROUPS) + 1]
        to[i] = -SHIFT if upper & 0x80 else SHIFT


@kernel(POINT_PUT)
def _put(choices: Ints, signs: Bytes, data: Bytes) -> None:
    points, to = choices.reshape(choices.size), data.reshape(data.size)
    for i in range(points.size // PARTS):
        at, g = i // GROUPS * BYTES, i % GROUPS
        upper = np.int64(0)
        for k in range(PARTS):
            point = points[i * PARTS + k]
            to[at + LOW + g * PARTS + k] = U8(point & 255)
            upper |= np.int64(point >> 8) << (3 * k)
        to[at + HIGH + 2 * g] = U8(upper & 255)
        to[at + HIGH + 2 * g + 1] = U8((to[at + HIGH + 2 * g + 1] & 0xF0) | (upper >> 8))


KERNELS = iq1_kernels(
    n=N, block_bytes=BYTES, epsilon=EPSILON, no_code=-1, needs_importance=True,
    cut=_cut, pack=_pack, decode=_decode,
    grid=PointKernels(
        points=partial(eights_values, "iq1", VALUES), group=N, signed=True, scales=_scales, shifts=_shifts, put=_put
    ),
)  # fmt: skip
