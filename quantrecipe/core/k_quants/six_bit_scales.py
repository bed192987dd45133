"""Super-blocks of 8 groups of 32 weights, whose scales and minima have 6 bits: the kernels of Q4_K and Q5_K.

    d     f16    scale of the scales
    dmin  f16    scale of the minima
    12 bytes:    byte 0…3    s0…s3 in bits 0-5, upper two bits of s4…s7 in bits 6-7
                 byte 4…7    m0…m3 in bits 0-5, upper two bits of m4…m7 in bits 6-7
                 byte 8…11   lower four bits of s4…s7, then of m4…m7
    then, with 5 bits, 32 × the upper bits of eight integers, and 128 × the lower four bits of two

ggml: block_q4_K, block_q5_K, get_scale_min_k4, quantize_row_q4_K_ref, quantize_row_q4_K_impl and their kin.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import DECODE, ENCODE, ENCODE_WEIGHTED, GRID_PUT, GRID_SCALES, GRID_STEPS, kernel
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
)  # fmt: skip
from quantrecipe.core.kernel_format import GridKernels, Kernels
from quantrecipe.core.lanes import LANES, WORKSPACE, nearest_int
from quantrecipe.core.scalars import F32, I32, U8, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.core.scale_searches.make_qkx2_quants import round_scale_min
from quantrecipe.core.scale_searches.make_qp_quants import COMMON, COUNTS, IN, INTEGERS, TABLE, make_qp_quants

__all__ = ["six_bit_kernels"]

HEAD = 16
"""Bytes of d, dmin and the packed scales and minima."""
N, GROUPS = 32, 8
TOP = 63
TOP_F = F32(TOP)

_search = make_qp_quants(GROUPS, TOP)


@kernel
def scale_of(data: Bytes, at: Int, i: Int) -> Float:
    """The i-th scale of the 12 bytes at a place, 0 to 63, as float32."""
    if i < 4:
        return F32(data[at + i] & U8(63))
    return F32((data[at + i + 4] & U8(15)) | ((data[at + i - 4] >> U8(6)) << U8(4)))


@kernel
def minimum_of(data: Bytes, at: Int, i: Int) -> Float:
    """The i-th minimum of the 12 bytes at a place, 0 to 63, as float32."""
    if i < 4:
        return F32(data[at + i + 4] & U8(63))
    return F32((data[at + i + 4] >> U8(4)) | ((data[at + i] >> U8(6)) << U8(4)))


@kernel
def put_pair(out: Bytes, at: Int, i: Int, scale: Float, minimum: Float) -> None:
    """Store the i-th scale and minimum, ints of a byte, in order from 0; upper bits go the way they go in ggml."""
    if i < 4:
        out[at + i] = U8(scale)
        out[at + i + 4] = U8(minimum)
    else:
        out[at + i + 4] = U8((scale & 15) | ((minimum & 15) << 4))
        out[at + i - 4] |= U8(((scale >> 4) << 6) & 255)
        out[at + i] |= U8(((minimum >> 4) << 6) & 255)


@kernel
def head_plain(found: Floats, lane: Int, out: Bytes, at: Int) -> None:
    """Write the 16 bytes for one lane of `found`: the largest scale and minimum become 63."""
    top_scale, top_minimum = ZERO, ZERO
    for i in range(GROUPS):
        scale = found[(SCALES * GROUPS + i) * LANES + lane]
        minimum = found[(MINIMA * GROUPS + i) * LANES + lane]
        top_scale = scale if scale > top_scale else top_scale
        top_minimum = minimum if minimum > top_minimum else top_minimum
    per_scale = TOP_F / top_scale if top_scale > ZERO else ZERO
    per_minimum = TOP_F / top_minimum if top_minimum > ZERO else ZERO
    put_half(out, at, top_scale / TOP_F)
    put_half(out, at + 2, top_minimum / TOP_F)
    for i in range(GROUPS):
        scale = nearest_int(per_scale * found[(SCALES * GROUPS + i) * LANES + lane]) & 255
        minimum = nearest_int(per_minimum * found[(MINIMA * GROUPS + i) * LANES + lane]) & 255
        put_pair(out, at + 4, i, min(scale, TOP), min(minimum, TOP))


@kernel
def head_weighted(found: Floats, count: Int, limit: Int, t: Floats, out: Bytes, at: Int, step: Int) -> None:
    """Write the 16 bytes for each of count lanes of `found`, at `at`, `at + step`, …: the best common scales.

    t is a table of `make_qp_quants.py`. Integers above `limit` become it.
    """
    for part in range(2):  # SCALES, then MINIMA
        for i in range(GROUPS):
            for j in range(LANES):
                lane = min(j, count - 1)
                t[IN + i * LANES + j] = found[((SCALES if part == 0 else MINIMA) * GROUPS + i) * LANES + lane]
                t[COUNTS + i * LANES + j] = found[(SUMS * GROUPS + i) * LANES + lane]
        _search(t)
        for j in range(count):
            to = at + j * step
            put_half(out, to + 2 * part, t[COMMON + j])
            # Sixteen integers of a byte each wait here until both halves are known.
            for i in range(GROUPS):
                found[((SCALES if part == 0 else MINIMA) * GROUPS + i) * LANES + j] = t[
                    INTEGERS + i * LANES + j
                ]
    for j in range(count):
        for i in range(GROUPS):
            scale = I32(found[(SCALES * GROUPS + i) * LANES + j])
            minimum = I32(found[(MINIMA * GROUPS + i) * LANES + j])
            put_pair(out, at + j * step + 4, i, min(scale, limit), min(minimum, limit))


def six_bit_kernels(*, bits: int, rmin: float, rdelta: float, nstep: int, limit: int) -> Kernels:
    """The kernels of Q4_K (4 bits) and Q5_K (5 bits).

    rmin, rdelta, nstep: ggml's arguments of make_qkx2_quants without importance; with it, they are the same for both.
    limit: what ggml cuts the integers of scales and minima at, with importance.
    """
    nmax, fifth = (1 << bits) - 1, bits == 5
    lower = HEAD + (N if fifth else 0)
    block_bytes = lower + SUPERBLOCK // 2
    find = find_plain(N, nmax=nmax, rmin=rmin, rdelta=rdelta, nstep=nstep)
    find_with_importance = find_weighted(N, nmax=nmax, rmin=-0.9, rdelta=0.05, nstep=36, sigma=2.0)
    round_group = round_scale_min(N, nmax)

    @kernel
    def put_integers(levels: Bytes, first: Int, to: Bytes, at: Int) -> None:
        """Store the integers of the super-block at to[at:]; its head stays."""
        if fifth:
            for i in range(N):
                upper = U8(0)
                for g in range(GROUPS):
                    upper |= U8(U8(levels[first + g * N + i] >> U8(4)) << U8(g))
                to[at + HEAD + i] = upper
        for p in range(GROUPS // 2):
            for i in range(N):
                low = levels[first + 2 * p * N + i] & U8(15)
                to[at + lower + p * N + i] = low | U8(levels[first + (2 * p + 1) * N + i] << U8(4))

    @kernel
    def pack(x: Floats, block: Int, found: Floats, lane: Int, levels: Bytes, to: Bytes) -> None:
        """Round a super-block with the scales and minima that its head holds, and store the integers."""
        at = place(block * block_bytes)
        d, dmin = get_half(to, at), get_half(to, at + 2)
        for g in range(GROUPS):
            iscale = found[(KEPT_ISCALES * GROUPS + g) * LANES + lane]
            base = found[(KEPT_BASES * GROUPS + g) * LANES + lane]
            scale, minimum = d * scale_of(to, at + 4, g), dmin * minimum_of(to, at + 4, g)
            round_group(x, block * SUPERBLOCK + g * N, scale, minimum, iscale, base, levels, g * N)
        put_integers(levels, 0, to, at)

    @kernel(ENCODE)
    def encode(rows: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, found = np.empty(WORKSPACE, np.float32), np.empty(FOUND * GROUPS * LANES, np.float32)
        levels = np.empty(SUPERBLOCK, np.uint8)
        blocks = x.size // SUPERBLOCK
        for first in range(0, blocks, LANES):
            count = min(LANES, blocks - first)
            find(x, first, count, s, found)
            for lane in range(count):
                head_plain(found, lane, to, (first + lane) * block_bytes)
                pack(x, first + lane, found, lane, levels, to)

    @kernel(ENCODE_WEIGHTED)
    def encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, found = np.empty(WORKSPACE, np.float32), np.empty(FOUND * GROUPS * LANES, np.float32)
        t, levels = np.empty(TABLE, np.float32), np.empty(SUPERBLOCK, np.uint8)
        blocks = x.size // SUPERBLOCK
        for first in range(0, blocks, LANES):
            count = min(LANES, blocks - first)
            find_with_importance(x, importance, first, count, s, found)
            head_weighted(found, count, limit, t, to, first * block_bytes, block_bytes)
            for lane in range(count):
                pack(x, first + lane, found, lane, levels, to)

    @kernel(DECODE)
    def decode(data: Bytes, rows: Floats) -> None:
        x, source = rows.reshape(rows.size), data.reshape(data.size)
        for block in range(x.size // SUPERBLOCK):
            at = place(block * block_bytes)
            d, dmin = get_half(source, at), get_half(source, at + 2)
            for p in range(GROUPS // 2):
                scale0, low0 = d * scale_of(source, at + 4, 2 * p), dmin * minimum_of(source, at + 4, 2 * p)
                scale1 = d * scale_of(source, at + 4, 2 * p + 1)
                low1 = dmin * minimum_of(source, at + 4, 2 * p + 1)
                first = place(block * SUPERBLOCK) + 2 * p * N
                for i in range(N):
                    q = source[at + lower + p * N + i]
                    upper = U8(source[at + HEAD + i] >> U8(2 * p)) if fifth else U8(0)
                    x[first + i] = scale0 * F32((q & U8(15)) | U8((upper & U8(1)) << U8(4))) - low0
                    x[first + N + i] = scale1 * F32((q >> U8(4)) | U8((upper & U8(2)) << U8(3))) - low1

    @kernel(GRID_SCALES)
    def grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
        source, flat, lows = (
            data.reshape(data.size),
            scales.reshape(scales.size),
            offsets.reshape(scales.size),
        )
        for block in range(flat.size // GROUPS):
            at = place(block * block_bytes)
            d, dmin = get_half(source, at), get_half(source, at + 2)
            for g in range(GROUPS):
                flat[block * GROUPS + g] = d * scale_of(source, at + 4, g)
                lows[block * GROUPS + g] = -(dmin * minimum_of(source, at + 4, g))

    @kernel(GRID_PUT)
    def grid_put(choices: Bytes, data: Bytes) -> None:
        levels, to = choices.reshape(choices.size), data.reshape(data.size)
        for block in range(levels.size // SUPERBLOCK):
            put_integers(levels, place(block * SUPERBLOCK), to, place(block * block_bytes))

    @kernel(GRID_STEPS)
    def grid_put_steps(steps: Ints, lows: Ints, data: Bytes) -> None:
        high, low, to = steps.reshape(steps.size), lows.reshape(steps.size), data.reshape(data.size)
        for block in range(high.size // GROUPS):
            at = place(block * block_bytes) + 4
            for g in range(GROUPS):
                put_pair(to, at, g, I32(high[block * GROUPS + g]), I32(low[block * GROUPS + g]))

    grid = GridKernels(
        values=tuple(range(nmax + 1)), group=N, scales=grid_scales, put=grid_put,
        steps=(0, TOP), lows=(0, TOP), put_steps=grid_put_steps,
    )  # fmt: skip
    return Kernels(encode=encode, encode_weighted=encode_weighted, decode=decode, grid=grid)
