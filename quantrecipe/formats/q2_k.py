"""Q2_K: super-blocks of 16 groups of 16 weights, each group with a 4-bit scale and minimum.

    256 weights → 16 × 4-bit scale and minimum, 64 × four 2-bit q, f16 d, f16 dmin (84 bytes)
    byte g               holds the scale of group g in its lower half, the minimum in its upper half
    byte 16 + 32 h + i   holds q of weight 128 h + 32 c + i in bits 2 c and 2 c + 1

    x ≈ d * scale * q - dmin * minimum

ggml: block_q2_K, quantize_row_q2_K_ref, quantize_row_q2_K_impl.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import (
    DECODE,
    ENCODE,
    ENCODE_WEIGHTED,
    GRID_PUT,
    GRID_SCALES,
    GRID_STEPS,
    GridKernels,
    Kernels,
    kernel,
)
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.k_quants.superblock import (
    FOUND,
    KEPT_BASES,
    KEPT_ISCALES,
    MINIMA,
    SCALES,
    SUMS,
    SUPERBLOCK,
    find_plain,
    find_weighted,
)
from quantrecipe.core.k_quants.two_bit_integers import get_two_bit, put_two_bit
from quantrecipe.core.lanes import LANES, WORKSPACE, nearest_int
from quantrecipe.core.scalars import F32, I32, U8, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.core.scale_searches.make_qkx2_quants import round_scale_min
from quantrecipe.core.scale_searches.make_qp_quants import COMMON, COUNTS, IN, INTEGERS, TABLE, make_qp_quants

__all__ = ["KERNELS"]

BYTES = 84
N, GROUPS = 16, 16
LEVELS, D, DMIN = 16, 80, 82
TOP = F32(15)

_find = find_plain(N, nmax=3, rmin=-0.5, rdelta=0.1, nstep=15, evened=False, absolute=True)
_find_weighted = find_weighted(N, nmax=3, rmin=-0.9, rdelta=0.05, nstep=36, sigma=1.0)
_search = make_qp_quants(GROUPS, 15)
_round = round_scale_min(N, 3)


@kernel
def _head_plain(found: Floats, lane: Int, to: Bytes) -> None:
    """Scales and minima of one lane of `found`: the largest of each becomes 15."""
    top_scale, top_minimum = ZERO, ZERO
    for g in range(GROUPS):
        scale, minimum = (
            found[(SCALES * GROUPS + g) * LANES + lane],
            found[(MINIMA * GROUPS + g) * LANES + lane],
        )
        top_scale = scale if scale > top_scale else top_scale
        top_minimum = minimum if minimum > top_minimum else top_minimum
    per_scale = TOP / top_scale if top_scale > ZERO else ZERO
    per_minimum = TOP / top_minimum if top_minimum > ZERO else ZERO
    put_half(to, D, top_scale / TOP)
    put_half(to, DMIN, top_minimum / TOP)
    for g in range(GROUPS):
        scale = nearest_int(per_scale * found[(SCALES * GROUPS + g) * LANES + lane])
        minimum = nearest_int(per_minimum * found[(MINIMA * GROUPS + g) * LANES + lane])
        to[g] = U8(I32(scale | I32(minimum << I32(4))) & I32(255))


@kernel
def _heads_weighted(found: Floats, count: Int, t: Floats, to: Bytes) -> None:
    """Scales and minima of count lanes of `found`, the best common scale of each. t: a table of `make_qp_quants.py`."""
    for part in range(2):
        kind, at, shift = (SCALES, D, 0) if part == 0 else (MINIMA, DMIN, 4)
        for g in range(GROUPS):
            for j in range(LANES):
                lane = min(j, count - 1)
                t[IN + g * LANES + j] = found[(kind * GROUPS + g) * LANES + lane]
                t[COUNTS + g * LANES + j] = found[(SUMS * GROUPS + g) * LANES + lane]
        _search(t)
        for j in range(count):
            put_half(to[j], at, t[COMMON + j])
            for g in range(GROUPS):
                kept = I32(to[j, g]) if part == 1 else I32(0)
                to[j, g] = U8(I32(kept | I32(I32(t[INTEGERS + g * LANES + j]) << I32(shift))) & I32(255))


@kernel
def _round_and_pack(x: Floats, found: Floats, lane: Int, levels: Bytes, to: Bytes) -> None:
    """Round a super-block with the scales and minima that its bytes hold already, and store the integers."""
    d, dmin = get_half(to, D), get_half(to, DMIN)
    for g in range(GROUPS):
        iscale = found[(KEPT_ISCALES * GROUPS + g) * LANES + lane]
        base = found[(KEPT_BASES * GROUPS + g) * LANES + lane]
        scale, minimum = d * F32(to[g] & U8(15)), dmin * F32(to[g] >> U8(4))
        _round(x, g * N, scale, minimum, iscale, base, levels, g * N)
    put_two_bit(levels, to[LEVELS:])


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // SUPERBLOCK
    x, to = rows.reshape(blocks, SUPERBLOCK), out.reshape(blocks, BYTES)
    s, found = np.empty(WORKSPACE, np.float32), np.empty(FOUND * GROUPS * LANES, np.float32)
    levels = np.empty(SUPERBLOCK, np.uint8)
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find(rows.reshape(rows.size), first, count, s, found)
        for lane in range(count):
            _head_plain(found, lane, to[first + lane])
            _round_and_pack(x[first + lane], found, lane, levels, to[first + lane])


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
    blocks = rows.size // SUPERBLOCK
    x, to = rows.reshape(blocks, SUPERBLOCK), out.reshape(blocks, BYTES)
    s, found = np.empty(WORKSPACE, np.float32), np.empty(FOUND * GROUPS * LANES, np.float32)
    t, levels = np.empty(TABLE, np.float32), np.empty(SUPERBLOCK, np.uint8)
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find_weighted(rows.reshape(rows.size), importance, first, count, s, found)
        _heads_weighted(found, count, t, to[first:])
        for lane in range(count):
            _round_and_pack(x[first + lane], found, lane, levels, to[first + lane])


@disjoint_kernel
def _scales(source: Bytes, at: Int, d: Float, dmin: Float, scales: Floats, minima: Floats) -> None:
    for g in range(trips(GROUPS, scales)):
        byte = I32(source[at + g])
        scales[g], minima[g] = d * F32(I32(byte & I32(15))), dmin * F32(I32(byte >> I32(4)))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    scales, minima = np.empty(GROUPS, np.float32), np.empty(GROUPS, np.float32)
    for b in range(x.size // SUPERBLOCK):
        first, at = place(b * SUPERBLOCK), place(b * BYTES)
        _scales(source, at, get_half(source, at + D), get_half(source, at + DMIN), scales, minima)
        get_two_bit(source, at + LEVELS, scales, minima, x, first)


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    blocks = scales.size // GROUPS
    source, to, lows = (
        data.reshape(data.size),
        scales.reshape(blocks, GROUPS),
        offsets.reshape(blocks, GROUPS),
    )
    for b in range(blocks):
        at = place(b * BYTES)
        _scales(source, at, get_half(source, at + D), get_half(source, at + DMIN), to[b], lows[b])
        for g in range(GROUPS):
            lows[b, g] = -lows[b, g]


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // SUPERBLOCK
    levels, to = choices.reshape(blocks, SUPERBLOCK), data.reshape(blocks, BYTES)
    for b in range(blocks):
        put_two_bit(levels[b], to[b, LEVELS:])


@kernel(GRID_STEPS)
def _grid_put_steps(steps: Ints, lows: Ints, data: Bytes) -> None:
    blocks = steps.size // GROUPS
    high, low, to = steps.reshape(blocks, GROUPS), lows.reshape(blocks, GROUPS), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for g in range(GROUPS):
            to[b, g] = U8(U8(high[b, g]) | U8(U8(low[b, g]) << U8(4)))


GRID = GridKernels(
    values=(0, 1, 2, 3), group=N, scales=_grid_scales, put=_grid_put,
    steps=(0, 15), lows=(0, 15), put_steps=_grid_put_steps,
)  # fmt: skip
KERNELS = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode, grid=GRID)
