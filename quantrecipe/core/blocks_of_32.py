"""Blocks of 32 weights with a scale, and perhaps a minimum: the kernels of Q4_0, Q4_1, Q5_0 and Q5_1.

    f16 d, f16 m if there is a minimum, then 32 integers q of 4 or 5 bits:
    4 bits    byte i         q of weight i in its lower half, of weight 16 + i in its upper half
    5 bits    byte i / 8     bit i % 8 is the fifth bit of q of weight i
              byte 4 + i     the lower bits, as above

    x ≈ d * (q - 8), d * (q - 16); with a minimum x ≈ d * q + m

ggml: block_q4_0 … block_q5_1, quantize_row_q4_0_ref, quantize_row_q4_0_impl and their kin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.bits import BIT_OF_EACH_BYTE, EACH_BYTE, LOWER_HALVES, get_word, place, trips
from quantrecipe.core.half import f16_bits, get_half, put_half
from quantrecipe.core.jit import (
    DECODE,
    ENCODE,
    ENCODE_WEIGHTED,
    GRID_PUT,
    GRID_SCALES,
    disjoint_kernel,
    kernel,
)
from quantrecipe.core.kernel_format import GridKernels, Kernels
from quantrecipe.core.lanes import LANES, WORKSPACE, select, weigh_in_rows
from quantrecipe.core.lows_and_highs import first_peaks, lows_and_highs
from quantrecipe.core.scalars import (
    F32,
    HALF,
    I32,
    INF,
    ONE,
    U8,
    U16,
    U32,
    U64,
    ZERO,
    Bytes,
    Float,
    Floats,
    Int,
    Ints,
)
from quantrecipe.core.scale_searches.make_qkx2_quants import (
    KEPT_BASE,
    KEPT_ISCALE,
    MINIMUM,
    make_qkx2_quants,
    round_scale_min,
)
from quantrecipe.core.scale_searches.make_qkx2_quants import SCALE as MIN_SCALE
from quantrecipe.core.scale_searches.make_qx_quants import SCALE, make_qx_quants, round_signed

__all__ = ["N", "scale_kernels", "scale_min_kernels"]

N = 32
"""ggml: QK4_0, QK4_1, QK5_0, QK5_1."""
MIDDLE = N // 2
# x * d + -0 is x * d, whatever its sign; x * d + 0 would make 0 of -0.
NOTHING = F32(-0.0)
# ggml: the arguments of make_qkx2_quants in quantize_row_q4_1_impl and quantize_row_q5_1_impl.
RMIN, RDELTA, NSTEP = F32(-0.9), F32(0.05), 36

_lows_and_highs, _first_peaks, _weigh = lows_and_highs(N), first_peaks(N), weigh_in_rows(N)


def scale_kernels(*, bits: int) -> Kernels:
    """The kernels of a format with a scale: Q4_0 and Q5_0."""
    nmax, block_bytes = 1 << bits - 1, 2 + N * bits // 8
    lowest, middle, rounding, top = F32(-nmax), F32(nmax), F32(nmax + 0.5), F32(2 * nmax - 1)
    put, get = _put_integers(bits), _get_integers(bits)
    search, round_groups = make_qx_quants(N, nmax), round_signed(N, nmax)

    @kernel
    def level(x: Float, iscale: Float, shift: Float) -> Int:
        v = x * iscale + shift
        # No weight is larger than the peak, so this is never negative. Where LLVM knows, it is six times as fast.
        v = select(v > ZERO, v, ZERO)
        return U8(I32(select(v < top, v, top)))

    @disjoint_kernel
    def divide(peaks: Floats, halves: Ints, iscales: Floats, shifts: Floats) -> None:
        """Of each block's peak, the bits of its scale, and what makes integers of its weights."""
        for b in range(peaks.size):
            d = peaks[b] / lowest
            iscale = select(d != ZERO, ONE / d, ZERO)
            # ggml's conversion of an infinite quotient to int8 gives 0.
            finite = abs(iscale) < INF
            shifts[b], iscales[b] = select(finite, rounding, ZERO), select(finite, iscale, ZERO)
            halves[b] = U16(f16_bits(d))

    @disjoint_kernel
    def round_plain(x: Floats, iscale: Float, shift: Float, levels: Bytes) -> None:
        for i in range(MIDDLE):
            levels[i] = level(x[i], iscale, shift)
            levels[MIDDLE + i] = level(x[MIDDLE + i], iscale, shift)

    @disjoint_kernel
    def round_and_put(x: Floats, iscale: Float, shift: Float, to: Bytes) -> None:
        """Both at once, which four bits are quick enough to gain by."""
        for i in range(MIDDLE):
            high = level(x[MIDDLE + i], iscale, shift)
            to[i] = U8(level(x[i], iscale, shift) | U8(high << U8(4)))

    @kernel(ENCODE)
    def encode(rows: Floats, out: Bytes) -> None:
        blocks = rows.size // N
        x, to = rows.reshape(blocks, N), out.reshape(blocks, block_bytes)
        levels = np.empty(N, np.uint8)
        eights = levels.view(np.uint64)
        halves, iscales = np.empty(blocks, np.uint16), np.empty(blocks, np.float32)
        shifts, peaks = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
        _first_peaks(rows.reshape(rows.size), peaks)
        divide(peaks, halves, iscales, shifts)
        for b in range(blocks):
            _put_bits(to[b], 0, halves[b])
            if bits == 4:
                round_and_put(x[b], iscales[b], shifts[b], to[b, 2:])
            else:
                round_plain(x[b], iscales[b], shifts[b], levels)
                put(eights, to[b, 2:])

    @kernel(ENCODE_WEIGHTED)
    def encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, levels = np.empty(WORKSPACE, np.float32), np.empty(LANES * N, np.uint8)
        eights = levels.view(np.uint64).reshape(LANES, N // 8)
        searched = np.zeros(LANES, np.float32)  # no other scales: the search's integers are the answer
        squares = np.empty(rows.shape[0], np.float32)
        blocks = x.size // N
        for first in range(0, blocks, LANES):
            count = min(LANES, blocks - first)
            _weigh(x, importance, first, count, squares, s)
            search(s)
            round_groups(x, first * N, count, searched, s, 0, levels)
            for lane in range(count):
                at = place((first + lane) * block_bytes)
                put_half(to, at, s[SCALE + lane])
                put(eights[lane], to[at + 2 :])

    @kernel(DECODE)
    def decode(data: Bytes, rows: Floats) -> None:
        blocks = rows.size // N
        x, source = rows.reshape(blocks, N), data.reshape(blocks, block_bytes)
        for b in range(blocks):
            get(source[b, 2:], get_half(source[b], 0), middle, NOTHING, x[b])

    grid = _grid_kernels(tuple(range(-nmax, nmax)), bits=bits, minimum=False)
    return Kernels(encode=encode, encode_weighted=encode_weighted, decode=decode, grid=grid)


def scale_min_kernels(*, bits: int) -> Kernels:
    """The kernels of a format with a scale and a minimum: Q4_1 and Q5_1."""
    nmax, block_bytes = (1 << bits) - 1, 4 + N * bits // 8
    top = F32(nmax)
    put, get = _put_integers(bits), _get_integers(bits)
    search, round_group = make_qkx2_quants(N), round_scale_min(N, nmax)

    @kernel
    def level(x: Float, low: Float, iscale: Float) -> Int:
        v = (x - low) * iscale + HALF
        v = select(v > ZERO, v, ZERO)
        return U8(I32(select(v < top, v, top)))

    @disjoint_kernel
    def divide(low: Floats, high: Floats, scales: Ints, minima: Ints, iscales: Floats) -> None:
        """The bits of each block's scale and minimum, and what makes integers of its weights."""
        for b in range(low.size):
            d = (high[b] - low[b]) / top
            iscale = select(d != ZERO, ONE / d, ZERO)
            # ggml's conversion of infinite and undefined quotients to a byte gives 0.
            iscales[b] = select(iscale < INF, iscale, ZERO)
            scales[b], minima[b] = U16(f16_bits(d)), U16(f16_bits(low[b]))

    @disjoint_kernel
    def round_plain(x: Floats, low: Float, iscale: Float, levels: Bytes) -> None:
        for i in range(MIDDLE):
            levels[i] = level(x[i], low, iscale)
            levels[MIDDLE + i] = level(x[MIDDLE + i], low, iscale)

    @disjoint_kernel
    def round_and_put(x: Floats, low: Float, iscale: Float, to: Bytes) -> None:
        """Both at once, which four bits are quick enough to gain by."""
        for i in range(MIDDLE):
            to[i] = U8(level(x[i], low, iscale) | U8(level(x[MIDDLE + i], low, iscale) << U8(4)))

    @kernel(ENCODE)
    def encode(rows: Floats, out: Bytes) -> None:
        blocks = rows.size // N
        x, to = rows.reshape(blocks, N), out.reshape(blocks, block_bytes)
        low, high = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
        levels = np.empty(N, np.uint8)
        eights = levels.view(np.uint64)
        halves, iscales = np.empty(2 * blocks, np.uint16).reshape(2, blocks), np.empty(blocks, np.float32)
        _lows_and_highs(rows.reshape(rows.size), low, high)
        divide(low, high, halves[0], halves[1], iscales)
        for b in range(blocks):
            _put_bits(to[b], 0, halves[0, b])
            _put_bits(to[b], 2, halves[1, b])
            if bits == 4:
                round_and_put(x[b], low[b], iscales[b], to[b, 4:])
            else:
                round_plain(x[b], low[b], iscales[b], levels)
                put(eights, to[b, 4:])

    @kernel(ENCODE_WEIGHTED)
    def encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, levels = np.empty(WORKSPACE, np.float32), np.empty(N, np.uint8)
        eights = levels.view(np.uint64)
        squares = np.empty(rows.shape[0], np.float32)
        blocks = x.size // N
        for first in range(0, blocks, LANES):
            count = min(LANES, blocks - first)
            _weigh(x, importance, first, count, squares, s)
            search(s, top, RMIN, RDELTA, NSTEP)
            for lane in range(count):
                at, b = place((first + lane) * block_bytes), first + lane
                put_half(to, at, s[MIN_SCALE + lane])
                put_half(to, at + 2, s[MINIMUM + lane])
                # No other scale: the search's integers are the answer.
                round_group(x, b * N, ZERO, ZERO, s[KEPT_ISCALE + lane], s[KEPT_BASE + lane], levels, 0)
                put(eights, to[at + 4 :])

    @kernel(DECODE)
    def decode(data: Bytes, rows: Floats) -> None:
        blocks = rows.size // N
        x, source = rows.reshape(blocks, N), data.reshape(blocks, block_bytes)
        for b in range(blocks):
            get(source[b, 4:], get_half(source[b], 0), ZERO, get_half(source[b], 2), x[b])

    grid = _grid_kernels(tuple(range(nmax + 1)), bits=bits, minimum=True)
    return Kernels(encode=encode, encode_weighted=encode_weighted, decode=decode, grid=grid)


def _grid_kernels(values: tuple[int, ...], *, bits: int, minimum: bool) -> GridKernels:
    """The second half of encoding, with a scale, and perhaps a minimum, at the beginning of each block."""
    head = 4 if minimum else 2
    block_bytes, put = head + N * bits // 8, _put_integers(bits)

    @kernel(GRID_SCALES)
    def scales_of(data: Bytes, scales: Floats, offsets: Floats) -> None:
        source, to, lows = data.reshape(data.size), scales.reshape(scales.size), offsets.reshape(scales.size)
        for b in range(to.size):
            at = place(b * block_bytes)
            to[b] = get_half(source, at)
            lows[b] = get_half(source, at + 2) if minimum else ZERO

    @kernel(GRID_PUT)
    def put_choices(choices: Bytes, data: Bytes) -> None:
        q, to = choices.reshape(choices.size // N, N), data.reshape(choices.size // N, block_bytes)
        levels = np.empty(N, np.uint8)  # choices themselves may lie anywhere, and aren't read as words
        eights = levels.view(np.uint64)
        for b in range(choices.size // N):
            for i in range(N):
                levels[i] = q[b, i]
            put(eights, to[b, head:])

    return GridKernels(values=values, group=N, scales=scales_of, put=put_choices)


@kernel
def _put_bits(to: Bytes, at: Int, half: Int) -> None:
    """Store the bits of a float16."""
    to[at], to[at + 1] = U8(half & U16(0xFF)), U8(half >> U16(8))


@cache
def _put_integers(bits: int) -> Callable[..., None]:
    """The kernel put(eights, to): 32 integers of a byte, seen as four uint64 → 4 bytes for each of their bits."""
    fifth, lower = bits == 5, 4 * (bits - 4)

    @disjoint_kernel
    def put(eights: Ints, to: Bytes) -> None:
        if fifth:
            for i in range(4):
                bit = U64(U64(eights[i] >> U64(4)) & EACH_BYTE)
                to[i] = U8(U64(bit * BIT_OF_EACH_BYTE) >> U64(56))
        for i in range(2):
            low, high = U64(eights[i] & LOWER_HALVES), U64(eights[2 + i] & LOWER_HALVES)
            packed = U64(low | U64(high << U64(4)))
            for c in range(8):
                to[lower + 8 * i + c] = U8(U64(packed >> U64(8 * c)) & U64(255))

    return put


@cache
def _get_integers(bits: int) -> Callable[..., None]:
    """The kernel get(source, scale, shift, minimum, x): x = (integer - shift) * scale + minimum."""
    fifth, lower = bits == 5, 4 * (bits - 4)

    @disjoint_kernel
    def get(source: Bytes, scale: Float, shift: Float, minimum: Float, x: Floats) -> None:
        fifths = get_word(source, 0) if fifth else U32(0)
        # With fifth bits there is enough to do for a vector; without, LLVM would unroll the loop instead.
        for i in range(MIDDLE if fifth else trips(MIDDLE, x)):
            byte = U32(source[lower + i])
            low = U32(U32(byte & U32(15)) | U32(U32(U32(fifths >> U32(i)) & U32(1)) << U32(4)))
            high = U32(U32(byte >> U32(4)) | U32(U32(U32(fifths >> U32(MIDDLE + i)) & U32(1)) << U32(4)))
            x[i] = (F32(I32(low)) - shift) * scale + minimum
            x[MIDDLE + i] = (F32(I32(high)) - shift) * scale + minimum

    return get
