"""IQ2_KL: groups of 32 weights with a 6-bit scale, pairs of weights in five bits, and one scale for the row.

    row          → f16 d, then its super-blocks
    256 weights → u16 upper bits of 8 scales, 4 × lower bits of two scales, 64 × the lower bits of two codes, 16 × the
    fifth bit of eight codes (86 bytes)
    byte 0, 1           bits 2 g and 2 g + 1 of the u16: the upper bits of scale g
    byte 2 + p          the lower bits of scale p in its lower half, of scale 4 + p in its upper half
    byte 6 + 16 p + i   lower half: of the code of weights 64 p + 2 i on; upper half: of 64 p + 32 + 2 i on
    byte 70 + i         bit g: the fifth bit of the code of weights 32 g + 2 i and 32 g + 2 i + 1

    x ≈ d * (scale - 32) * PAIRS[code]

ik_llama.cpp: block_iq2_kl, quantize_row_iq2_kl_impl, dequantize_row_iq2_kl. The pairs are in `core/pairs.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from quantrecipe.core import DECODE, Kernels, PointKernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import POINT_PUT, POINT_SCALES
from quantrecipe.core.lanes import LANES, WT, X, find_peaks, first_largest, lane_row, select
from quantrecipe.core.scalars import F32, I32, ONE, U8, ZERO, Bytes, Float, Floats, Int, Ints

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.pairs import PAIRS, code_near, pair_near
from quantrecipe_ik.core.scales import inverse, signed_level
from quantrecipe_ik.core.value_tables import THREE_BITS
from quantrecipe_ik.core.weighing import SUPERBLOCK

__all__ = ["KERNELS"]

STEPS = 32
EPSILON = F32(1e-16)
TRIES = 5
FIRST = F32(THREE_BITS.plain[0])
FACTOR = 2.25
RAISED = F32(1.025)
"""ik_llama.cpp stores d a little larger than the fit says."""
WORST = np.finfo(F32).max

BYTES = 86
D = 2
UPPER, SCALES, CODES, FIFTH = 0, 2, 6, 70
N = 32
PAIR_COUNT = N // 2
GROUPS = SUPERBLOCK // N
FIRSTS, SECONDS = PAIRS[:, 0].copy(), PAIRS[:, 1].copy()

SCALE, PEAK, SIZE, BEST, ISCALE, SXL, SL2, MINUS_SXL, MINUS_SL2 = (lane_row(i) for i in range(9))
_find_peaks = find_peaks(N, PEAK, SIZE)
_pair_near, _code_near = pair_near(), code_near()


@kernel
def _fit(s: Floats, sign: Float, at_xl: Int, at_l2: Int) -> None:
    """Sums of the pairs that are best for sign * ISCALE * x."""
    for j in range(LANES):
        s[at_xl + j] = ZERO
        s[at_l2 + j] = ZERO
    for i in range(0, N, 2):
        for j in range(LANES):
            iscale = sign * s[ISCALE + j]
            x, w = s[X + i * LANES + j], s[WT + i * LANES + j]
            y, v = s[X + (i + 1) * LANES + j], s[WT + (i + 1) * LANES + j]
            p, q, _ = _pair_near(iscale * x, iscale * y, w, v)
            s[at_xl + j] += w * p * x + v * q * y
            s[at_l2 + j] += w * p * p + v * q * q


@kernel
def _keep_better(s: Floats, at_xl: Int, at_l2: Int) -> None:
    for j in range(LANES):
        sxl, sl2 = s[at_xl + j], s[at_l2 + j]
        better = (sl2 > ZERO) & (sxl * sxl > s[BEST + j] * sl2)
        scale = sxl / sl2
        s[SCALE + j] = select(better, scale, s[SCALE + j])
        s[BEST + j] = select(better, scale * sxl, s[BEST + j])


@kernel
def _search(s: Floats, first: Int, count: Int, scales: Floats, counts: Floats, shifted: Int) -> None:
    """The scales of the groups at X, weighted by WT; as `encoders` takes it."""
    _find_peaks(s)
    for j in range(LANES):
        s[ISCALE + j] = ONE / (-s[PEAK + j] / FIRST)
    for step in range(-TRIES - 1, TRIES + 1):
        if step >= -TRIES:
            for j in range(LANES):
                s[ISCALE + j] = (F32(step) + FIRST) / s[PEAK + j]
        _fit(s, ONE, SXL, SL2)
        _fit(s, -ONE, MINUS_SXL, MINUS_SL2)
        if step < -TRIES:
            for j in range(LANES):
                s[SCALE + j] = s[SXL + j] / s[SL2 + j]
                s[BEST + j] = s[SCALE + j] * s[SXL + j]
        else:
            _keep_better(s, SXL, SL2)
        _keep_better(s, MINUS_SXL, MINUS_SL2)
    for j in range(LANES):
        s[SCALE + j] = select(s[SIZE + j] < EPSILON, ZERO, s[SCALE + j])
    for j in range(count):
        scales[first + j] = s[SCALE + j]


@kernel
def _round(x: Floats, weights: Floats, at: Int, iscale: Float, codes: Bytes) -> None:
    """codes[i] = that of the best pair for iscale times the weights at 2 i and 2 i + 1."""
    at = place(at)
    for i in range(trips(PAIR_COUNT, codes)):
        _, _, code = _code_near(
            iscale * x[at + 2 * i], iscale * x[at + 2 * i + 1], weights[at + 2 * i], weights[at + 2 * i + 1]
        )
        codes[i] = U8(code)


@kernel
def _loss(x: Floats, weights: Floats, at: Int, scale: Float, codes: Bytes) -> Float:
    """The weighted squared error of a group."""
    at, loss = place(at), ZERO
    for i in range(PAIR_COUNT):
        a, b = scale * FIRSTS[codes[i]] - x[at + 2 * i], scale * SECONDS[codes[i]] - x[at + 2 * i + 1]
        loss += weights[at + 2 * i] * a * a + weights[at + 2 * i + 1] * b * b
    return loss


@kernel
def _best_level(x: Floats, weights: Floats, at: Int, d: Float, level: Int, codes: Bytes) -> Int:
    """The best of a level and the two next to it."""
    best, least = level, WORST
    for tried in range(max(-STEPS, level - 1), min(STEPS - 1, level + 1) + 1):
        dl = d * F32(tried)
        _round(x, weights, at, inverse(dl), codes)
        loss = _loss(x, weights, at, dl, codes)
        if loss < least:
            best, least = I32(tried), loss
    return best


@kernel
def _put_code(to: Bytes, at: Int, g: Int, i: Int, code: Int) -> None:
    """The code of pair i of group g, in a super-block whose codes were 0."""
    to[at + CODES + 16 * (g // 2) + i] |= U8((code & U8(15)) << U8(4 * (g % 2)))
    to[at + FIFTH + i] |= U8((code >> U8(4)) << U8(g))


@kernel
def _get_scale(source: Bytes, at: Int, g: Int, d: Float) -> Float:
    low = (source[at + SCALES + g % 4] >> U8(4 * (g // 4))) & U8(15)
    high = (source[at + UPPER + g // 4] >> U8(2 * (g % 4))) & U8(3)
    return d * F32(I32(low) + I32(high) * I32(16) - STEPS)


@kernel
def _finish(
    x: Floats, weights: Floats, scales: Floats, counts: Floats, shifted: Int, k: Int, to: Bytes
) -> None:
    """Quantize the scales of each row, round its weights with them, fit d to what came out, and pack."""
    width, groups = D + k // SUPERBLOCK * BYTES, k // N
    codes = np.empty(PAIR_COUNT, np.uint8)
    for row in range(x.size // k):
        start = place(row * width)
        to[start : start + width] = U8(0)
        peak = first_largest(scales, row * groups, groups)
        if peak == ZERO:
            continue
        d = -peak / F32(STEPS)
        iscale = inverse(d)
        sxl, sl2 = ZERO, ZERO
        for in_row in range(groups):
            group, g, at = row * groups + in_row, in_row % GROUPS, start + D + in_row // GROUPS * BYTES
            first = place(group * N)
            level = signed_level(iscale * scales[group], STEPS)
            level = _best_level(x, weights, first, d, level, codes)
            stored = U8(level + STEPS)
            to[at + SCALES + g % 4] |= U8((stored & U8(15)) << U8(4 * (g // 4)))
            to[at + UPPER + g // 4] |= U8((stored >> U8(4)) << U8(2 * (g % 4)))
            if level == 0:
                continue
            _round(x, weights, first, inverse(d * F32(level)), codes)
            for i in range(PAIR_COUNT):
                _put_code(to, at, g, i, codes[i])
                p, q = F32(level) * FIRSTS[codes[i]], F32(level) * SECONDS[codes[i]]
                w, v = weights[first + 2 * i], weights[first + 2 * i + 1]
                sxl += w * p * x[first + 2 * i] + v * q * x[first + 2 * i + 1]
                sl2 += w * p * p + v * q * q
        put_half(to, start, RAISED * (sxl / sl2 if sl2 > ZERO else d))


_encode, _encode_weighted = encoders(N, "size", FACTOR, _search, _finish)


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_half(source, start)
        for group in range(k // N):
            at, g = start + D + group // GROUPS * BYTES, group % GROUPS
            scale = _get_scale(source, at, g, d)
            for i in range(PAIR_COUNT):
                code = (source[at + CODES + 16 * (g // 2) + i] >> U8(4 * (g % 2))) & U8(15)
                code |= U8(((source[at + FIFTH + i] >> U8(g)) & U8(1)) << U8(4))
                x[group * N + 2 * i] = scale * FIRSTS[code]
                x[group * N + 2 * i + 1] = scale * SECONDS[code]


@kernel(POINT_SCALES)
def _scales_of(data: Bytes, scales: Floats) -> None:
    for row in range(data.shape[0]):
        d = get_half(data[row], 0)
        for group in range(scales.shape[1]):
            scales[row, group] = _get_scale(data[row], D + group // GROUPS * BYTES, group % GROUPS, d)


@kernel(POINT_PUT)
def _put(choices: Ints, signs: Bytes, data: Bytes) -> None:
    for row in range(data.shape[0]):
        to = data[row]
        for group in range(choices.shape[1] // PAIR_COUNT):
            at, g = D + group // GROUPS * BYTES, group % GROUPS
            if g == 0:
                to[at + CODES : at + BYTES] = U8(0)
            for i in range(PAIR_COUNT):
                _put_code(to, at, g, i, U8(choices[row, group * PAIR_COUNT + i]))


def _pairs() -> np.ndarray[Any, np.dtype[np.float32]]:
    return PAIRS


KERNELS = Kernels(
    encode=_encode, encode_weighted=_encode_weighted, decode=_decode,
    grid=PointKernels(points=_pairs, group=N, signed=True, scales=_scales_of, put=_put),
)  # fmt: skip
