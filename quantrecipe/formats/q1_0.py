"""Q1_0: signs, and the mean size of 128 weights.

    128 weights → f16 d, 128 × 1-bit q (18 bytes)
    byte 2 + i holds q of weight 8 i + c in bit c

    x ≈ d where q is 1 (also for a weight of -0.0), -d where q is 0

ggml: block_q1_0, quantize_row_q1_0_ref. Importance has no effect.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.bits import BIT_OF_EACH_BYTE, as_bits, as_float, get_word
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.largest_sizes import sums_of_sizes
from quantrecipe.core.scalars import F32, U8, U32, U64, ZERO, Bytes, Float, Floats, Ints

__all__ = ["KERNELS"]

N, BYTES = 128, 18
MEAN = F32(1 / N)

_sums = sums_of_sizes(N)


@disjoint_kernel
def _signs(x: Floats, levels: Bytes) -> None:
    for i in range(x.size):
        levels[i] = U8(x[i] >= ZERO)


@disjoint_kernel
def _pack(eights: Ints, packed: Bytes) -> None:
    for i in range(eights.size):
        packed[i] = U8(U64(eights[i] * BIT_OF_EACH_BYTE) >> U64(56))


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    x = rows.reshape(rows.size)
    blocks = x.size // N
    to, sums = out.reshape(blocks, BYTES), np.empty(blocks, np.float32)
    levels, packed = np.empty(x.size, np.uint8), np.empty(x.size // 8, np.uint8)
    _sums(x, sums)
    _signs(x, levels)
    _pack(levels.view(U64), packed)
    for b in range(blocks):
        put_half(to[b], 0, sums[b] * MEAN)
        for i in range(N // 8):
            to[b, 2 + i] = packed[b * (N // 8) + i]


@disjoint_kernel
def _get(source: Bytes, d: Float, x: Floats) -> None:
    # A sign bit is the opposite of q.
    size = as_bits(-d)
    w0, w1, w2, w3 = get_word(source, 2), get_word(source, 6), get_word(source, 10), get_word(source, 14)
    for i in range(32):
        x[i] = as_float(size ^ U32(U32(w0 >> U32(i)) << U32(31)))
        x[32 + i] = as_float(size ^ U32(U32(w1 >> U32(i)) << U32(31)))
        x[64 + i] = as_float(size ^ U32(U32(w2 >> U32(i)) << U32(31)))
        x[96 + i] = as_float(size ^ U32(U32(w3 >> U32(i)) << U32(31)))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    blocks = rows.size // N
    x, source = rows.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        _get(source[b], get_half(source[b], 0), x[b])


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for b in range(to.size):
        to[b] = get_half(source, b * BYTES)


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // N
    q, to = choices.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for i in range(N // 8):
            packed = U8(0)
            for c in range(8):
                packed |= U8(q[b, 8 * i + c] << U8(c))
            to[b, 2 + i] = packed


GRID = GridKernels(values=(-1, 1), group=N, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
