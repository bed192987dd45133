"""Q6_K: super-blocks of 16 groups of 16 weights, each group with an 8-bit scale.

    256 weights → 128 × two times four lower bits of q, 64 × four times two upper bits of q,
                  16 × int8 scale, f16 d (210 bytes)
    halves h of 128 weights, i from 0 to 31, the four weights 128 h + 32 c + i:
    byte 64 h + i             lower bits of c = 0 in its lower half, of c = 2 in its upper half
    byte 64 h + 32 + i        lower bits of c = 1 in its lower half, of c = 3 in its upper half
    byte 128 + 32 h + i       upper bits of c in bits 2 c and 2 c + 1

    x ≈ d * scale * (q - 32)

ggml: block_q6_K, quantize_row_q6_K_ref, quantize_row_q6_K_impl.
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
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    first_largest,
    load_groups,
    load_importance,
    nearest_int,
    weigh_by_square,
)
from quantrecipe.core.scalars import F32, I8, ONE, U8, ZERO, Bytes, Floats, Int, Ints
from quantrecipe.core.scale_searches.make_qx_quants import SCALE, make_qx_quants, round_signed

__all__ = ["KERNELS"]

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
TOP = F32(-128)

BYTES = 210
N, GROUPS = 16, 16
LOWER, UPPER, SCALES, D = 0, 128, 192, 208

_load, _load_importance, _weigh = load_groups(N), load_importance(N), weigh_by_square(N)
_search = make_qx_quants(N, 32)
_round = round_signed(N, 32)


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, levels = np.empty(WORKSPACE, np.float32), np.empty(SUPERBLOCK, np.uint8)
    groups = x.size // N
    for first in range(0, groups, LANES):
        count = min(LANES, groups - first)
        _load(x, first, count, s)
        _weigh(s)
        _search(s)
        for lane in range(0, count, GROUPS):
            _finish(x, (first + lane) // GROUPS, s, lane, levels, to)


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, levels = np.empty(WORKSPACE, np.float32), np.empty(SUPERBLOCK, np.uint8)
    groups = x.size // N
    for first in range(0, groups, LANES):
        count = min(LANES, groups - first)
        _load(x, first, count, s)
        _load_importance(importance, first, count, s)
        _search(s)
        for lane in range(0, count, GROUPS):
            _finish(x, (first + lane) // GROUPS, s, lane, levels, to)


@kernel
def _finish(x: Floats, block: Int, s: Floats, lane: Int, levels: Bytes, to: Bytes) -> None:
    """Quantize the scales of the super-block whose groups begin at this lane, round its weights with them, pack."""
    at = place(block * BYTES)
    peak = first_largest(s, SCALE + lane, GROUPS)
    if abs(peak) < EPSILON:
        to[at : at + BYTES] = U8(0)
        return
    iscale = TOP / peak
    put_half(to, at + D, ONE / iscale)
    for g in range(GROUPS):
        to[at + SCALES + g] = U8(min(nearest_int(iscale * s[SCALE + lane + g]), 127) & 255)
    _round_and_pack(x, block, s, lane, levels, to)


@kernel
def _round_and_pack(x: Floats, block: Int, s: Floats, lane: Int, levels: Bytes, to: Bytes) -> None:
    """Round a super-block with the scales that its bytes hold already, and store the integers."""
    at = place(block * BYTES)
    d = get_half(to, at + D)
    scales = np.empty(GROUPS, np.float32)
    for g in range(GROUPS):
        scales[g] = d * F32(I8(to[at + SCALES + g]))
    _round(x, block * SUPERBLOCK, GROUPS, scales, s, lane, levels)
    _put(levels, 0, to, at)


@kernel
def _put(levels: Bytes, first: Int, to: Bytes, at: Int) -> None:
    """Store the integers of the super-block at to[at:]."""
    for h in range(2):
        for i in range(trips(32, levels)):
            c0, c1 = levels[first + 128 * h + i], levels[first + 128 * h + 32 + i]
            c2, c3 = levels[first + 128 * h + 64 + i], levels[first + 128 * h + 96 + i]
            to[at + LOWER + 64 * h + i] = (c0 & U8(15)) | U8(c2 << U8(4))
            to[at + LOWER + 64 * h + 32 + i] = (c1 & U8(15)) | U8(c3 << U8(4))
            low, high = (c0 >> U8(4)) | U8((c1 >> U8(4)) << U8(2)), (c2 >> U8(4)) | U8((c3 >> U8(4)) << U8(2))
            to[at + UPPER + 32 * h + i] = low | U8(high << U8(4))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    length = trips(N, x)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d = get_half(source, at + D)
        for h in range(2):
            for c in range(4):
                lower, shift = at + LOWER + 64 * h + 32 * (c & 1), U8(4 * (c >> 1))
                for part in range(2):
                    scale = d * F32(I8(source[at + SCALES + 8 * h + 2 * c + part]))
                    first = place(block * SUPERBLOCK) + 128 * h + 32 * c
                    for i in range(length):
                        low = U8(source[lower + N * part + i] >> shift) & U8(15)
                        high = U8(source[at + UPPER + 32 * h + N * part + i] >> U8(2 * c)) & U8(3)
                        x[first + N * part + i] = scale * (F32(low | U8(high << U8(4))) - F32(32))


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    blocks = scales.size // GROUPS
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for b in range(blocks):
        at = place(b * BYTES)
        d = get_half(source, at + D)
        for g in range(GROUPS):
            to[b * GROUPS + g] = d * F32(I8(source[at + SCALES + g]))


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    levels, to = choices.reshape(choices.size), data.reshape(data.size)
    for b in range(levels.size // SUPERBLOCK):
        _put(levels, place(b * SUPERBLOCK), to, place(b * BYTES))


@kernel(GRID_STEPS)
def _grid_put_steps(steps: Ints, lows: Ints, data: Bytes) -> None:  # it has no offsets
    blocks = steps.size // GROUPS
    from_, to = steps.reshape(blocks, GROUPS), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for g in range(GROUPS):
            to[b, SCALES + g] = U8(from_[b, g] & 255)


GRID = GridKernels(
    values=tuple(range(-32, 32)), group=N, scales=_grid_scales, put=_grid_put,
    steps=(-128, 127), put_steps=_grid_put_steps,
)  # fmt: skip
KERNELS = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode, grid=GRID)
