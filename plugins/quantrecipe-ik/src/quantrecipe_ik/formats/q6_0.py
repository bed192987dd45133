"""Q6_0: a scale for 32 weights, in six bits: what IQ5_K falls back to.

    32 weights → f16 d, 8 × upper bits of four q, 16 × lower bits of two q (26 bytes)
    byte 2 + i   bits 0 and 1: the upper bits of q of weight i, 2 and 3: of weight 16 + i, 4 and 5: of weight 8 + i,
                 6 and 7: of weight 24 + i
    byte 10 + i  the lower bits of q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * (q - 32)

ik_llama.cpp: block_q6_0, quantize_row_q6_0_impl, dequantize_row_q6_0, and its make_qx_quants, which tries scales of the
other sign, too, and then moves single integers by one as long as that makes the fit better.
"""

from __future__ import annotations

import numpy as np
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, GridKernels, Kernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import GRID_PUT, GRID_SCALES
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    WT,
    X,
    find_peaks,
    lane_row,
    load_groups,
    nearest,
    select,
    weigh_by_square,
    weigh_in_rows,
)  # fmt: skip
from quantrecipe.core.scalars import F32, I32, ONE, TWO, U8, ZERO, Bytes, Float, Floats, Int
from quantrecipe.core.scale_searches.make_qx_quants import (
    BEST,
    ISCALE,
    KEPT_ISCALE,
    PEAK,
    SCALE,
    SIZE,
    SL2,
    SXL,
    fit_nearest,
)  # fmt: skip

__all__ = ["KERNELS"]

STEP = F32(0.1)
EPSILON = F32(1e-15)  # ik_llama.cpp: GROUP_MAX_EPS
STEPS = 9

N, BYTES, UPPER, LOWER = 32, 26, 2, 10
NMAX, LOWEST, HIGHEST = F32(32), F32(-32), F32(31)
KEPT_SXL, KEPT_SL2 = lane_row(8), lane_row(9)  # behind the rows of make_qx_quants
MOVES = N * (2 * 32 - 1)

_find_peaks, _load, _fit = find_peaks(N, PEAK, SIZE), load_groups(N), fit_nearest(N, 32)
_weigh_plain, _weigh = weigh_by_square(N), weigh_in_rows(N)


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s = np.empty(WORKSPACE, np.float32)
    blocks = x.size // N
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _load(x, first, count, s)
        _weigh_plain(s)
        _search(s)
        _pack(x, first, count, s, to)


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, squares = np.empty(WORKSPACE, np.float32), np.empty(rows.shape[0], np.float32)
    blocks = x.size // N
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _weigh(x, importance, first, count, squares, s)
        _search(s)
        _pack(x, first, count, s, to)


@kernel
def _try(s: Floats, wanted: Float) -> None:
    """Let the weight of largest size become `wanted`, and keep the fit if it is the best."""
    for j in range(LANES):
        s[ISCALE + j] = wanted / s[PEAK + j]
    _fit(s)
    for j in range(LANES):
        sxl, sl2 = s[SXL + j], s[SL2 + j]
        scale = sxl / sl2
        better = (sl2 > ZERO) & (sxl * sxl > s[BEST + j] * sl2)
        s[SCALE + j] = select(better, scale, s[SCALE + j])
        s[BEST + j] = select(better, scale * sxl, s[BEST + j])
        s[KEPT_ISCALE + j] = select(better, s[ISCALE + j], s[KEPT_ISCALE + j])
        s[KEPT_SXL + j] = select(better, sxl, s[KEPT_SXL + j])
        s[KEPT_SL2 + j] = select(better, sl2, s[KEPT_SL2 + j])


@kernel
def _search(s: Floats) -> None:
    """SCALE, and KEPT_ISCALE: the integers are those nearest to KEPT_ISCALE * x. Both 0 for an empty group."""
    _find_peaks(s)
    for j in range(LANES):
        s[ISCALE + j] = LOWEST / s[PEAK + j]
        s[KEPT_ISCALE + j] = s[ISCALE + j]
    _fit(s)
    for j in range(LANES):
        s[SCALE + j] = select(s[SL2 + j] != ZERO, s[SXL + j] / s[SL2 + j], ZERO)
        s[BEST + j] = s[SCALE + j] * s[SXL + j]
        s[KEPT_SXL + j], s[KEPT_SL2 + j] = s[SXL + j], s[SL2 + j]
    for step in range(-STEPS, STEPS + 1):
        _try(s, -(NMAX + STEP * F32(step)))
        _try(s, HIGHEST + STEP * F32(step))
    for j in range(LANES):
        empty = s[SIZE + j] < EPSILON
        s[SCALE + j] = select(empty, ZERO, s[SCALE + j])
        s[KEPT_ISCALE + j] = select(empty, ZERO, s[KEPT_ISCALE + j])


@kernel
def _move(s: Floats, lane: Int, q: Floats) -> Float:
    """Move single integers of one group by one, the one that gains most first; the scale for what they become."""
    scale, best, sxl, sl2 = s[SCALE + lane], s[BEST + lane], s[KEPT_SXL + lane], s[KEPT_SL2 + lane]
    x, w, gains = np.empty(N, np.float32), np.empty(N, np.float32), np.empty(N, np.float32)
    length = trips(N, q)
    for i in range(N):
        x[i], w[i] = s[X + i * LANES + lane], s[WT + i * LANES + lane]
    for _ in range(MOVES):
        for i in range(length):
            g = scale * w[i] * (x[i] - scale * q[i])
            can = ((g > ZERO) & (q[i] < HIGHEST)) | ((g < ZERO) & (q[i] > LOWEST))
            gains[i] = select(can, g, ZERO)
        most, chosen = ZERO, 0
        for i in range(N):
            chosen = i if abs(gains[i]) > most else chosen
            most = max(most, abs(gains[i]))
        if most == ZERO:
            break
        old, at, counts = q[chosen], x[chosen], w[chosen]
        if gains[chosen] > ZERO:
            new, new_sxl, new_sl2 = old + ONE, sxl + counts * at, sl2 + counts * (TWO * old + ONE)
        else:
            new, new_sxl, new_sl2 = old - ONE, sxl - counts * at, sl2 - counts * (TWO * old - ONE)
        if not (new_sl2 > ZERO and new_sxl * new_sxl > best * new_sl2):
            break
        q[chosen], sxl, sl2 = new, new_sxl, new_sl2
        scale = sxl / sl2
        best = scale * sxl
    return scale


@kernel
def _pack(x: Floats, first: Int, count: Int, s: Floats, to: Bytes) -> None:
    """Write the blocks whose scales are in the lanes."""
    q, levels, length = np.zeros(N, np.float32), np.zeros(N, np.uint8), trips(N, to)
    for lane in range(count):
        at, start, iscale = place((first + lane) * BYTES), place((first + lane) * N), s[KEPT_ISCALE + lane]
        for i in range(length):
            v = nearest(iscale * x[start + i])
            v = select(v > LOWEST, v, LOWEST)
            q[i] = select(v < HIGHEST, v, HIGHEST)
        empty = s[SIZE + lane] < EPSILON
        put_half(to, at, ZERO if empty else _move(s, lane, q))
        shift = ZERO if empty else NMAX  # a group without a weight to speak of has 0, not 32
        for i in range(length):
            levels[i] = U8(I32(q[i] + shift))
        for i in range(N // 2):
            to[at + LOWER + i] = (levels[i] & U8(15)) | U8(levels[N // 2 + i] << U8(4))
        for i in range(N // 4):
            low = (levels[i] >> U8(4)) | U8((levels[16 + i] >> U8(4)) << U8(2))
            high = (levels[8 + i] >> U8(4)) | U8((levels[24 + i] >> U8(4)) << U8(2))
            to[at + UPPER + i] = low | U8(high << U8(4))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        d = get_half(source, at)
        for h in range(2):
            for i in range(N // 4):
                packed = source[at + LOWER + 8 * h + i]
                upper = source[at + UPPER + i] >> U8(4 * h)
                low = (packed & U8(15)) | U8((upper & U8(3)) << U8(4))
                high = (packed >> U8(4)) | U8(((upper >> U8(2)) & U8(3)) << U8(4))
                x[first + 8 * h + i] = F32(I32(low) - I32(32)) * d
                x[first + 16 + 8 * h + i] = F32(I32(high) - I32(32)) * d


@kernel(GRID_SCALES)
def _scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    for block in range(to.size):
        to[block] = get_half(source, block * BYTES)
    offsets[:] = ZERO


@kernel(GRID_PUT)
def _put(choices: Bytes, data: Bytes) -> None:
    q, to = choices.reshape(choices.size), data.reshape(data.size)
    for block in range(q.size // N):
        at, first = block * BYTES, block * N
        for i in range(N // 2):
            to[at + LOWER + i] = (q[first + i] & U8(15)) | U8(q[first + N // 2 + i] << U8(4))
        for i in range(N // 4):
            low = (q[first + i] >> U8(4)) | U8((q[first + 16 + i] >> U8(4)) << U8(2))
            high = (q[first + 8 + i] >> U8(4)) | U8((q[first + 24 + i] >> U8(4)) << U8(2))
            to[at + UPPER + i] = low | U8(high << U8(4))


KERNELS = Kernels(
    encode=_encode,
    encode_weighted=_encode_weighted,
    decode=_decode,
    grid=GridKernels(values=tuple(map(float, range(-32, 32))), group=N, scales=_scales, put=_put),
)
