"""Q2_0: 2-bit integers and a scale for 64 weights.

    64 weights → f16 d, 64 × 2-bit q (18 bytes)
    byte 2 + i holds q of weight 4 i + c in bits 2 c and 2 c + 1

    x ≈ d * (q - 1); d is the largest size, so that encoding makes no q of 3

ggml: block_q2_0, quantize_row_q2_0_ref. Importance has no effect.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.bits import as_float, get_word
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.largest_sizes import largest_sizes
from quantrecipe.core.scalars import F32, I32, INF, ONE, U8, U32, ZERO, Bytes, Float, Floats
from quantrecipe.core.ternary import trit

__all__ = ["KERNELS"]

N, BYTES = 64, 18

_sizes = largest_sizes(N)


@disjoint_kernel
def _put(x: Floats, iscale: Float, to: Bytes) -> None:
    for i in range(N // 4):
        low = trit(x[4 * i] * iscale) | U8(trit(x[4 * i + 1] * iscale) << U8(2))
        high = trit(x[4 * i + 2] * iscale) | U8(trit(x[4 * i + 3] * iscale) << U8(2))
        to[2 + i] = U8(low | U8(high << U8(4)))


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // N
    x, to = rows.reshape(blocks, N), out.reshape(blocks, BYTES)
    largest = np.empty(blocks, np.uint32)
    _sizes(rows.reshape(rows.size).view(np.uint32), largest)
    for b in range(blocks):
        d = as_float(largest[b])
        iscale = ONE / d if d != ZERO else ZERO
        put_half(to[b], 0, d)
        if iscale < INF:
            _put(x[b], iscale, to[b])
        else:
            # ggml's conversion of infinite and undefined quotients to integers gives the lowest one.
            to[b, 2:] = U8(0)


@disjoint_kernel
def _get(source: Bytes, d: Float, x: Floats) -> None:
    w0, w1, w2, w3 = get_word(source, 2), get_word(source, 6), get_word(source, 10), get_word(source, 14)
    for i in range(16):
        x[i] = (F32(I32(U32(w0 >> U32(2 * i)) & U32(3))) - ONE) * d
        x[16 + i] = (F32(I32(U32(w1 >> U32(2 * i)) & U32(3))) - ONE) * d
        x[32 + i] = (F32(I32(U32(w2 >> U32(2 * i)) & U32(3))) - ONE) * d
        x[48 + i] = (F32(I32(U32(w3 >> U32(2 * i)) & U32(3))) - ONE) * d


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
        for i in range(N // 4):
            low = U8(q[b, 4 * i] | U8(q[b, 4 * i + 1] << U8(2)))
            high = U8(q[b, 4 * i + 2] | U8(q[b, 4 * i + 3] << U8(2)))
            to[b, 2 + i] = U8(low | U8(high << U8(4)))


GRID = GridKernels(values=(-1, 0, 1, 2), group=N, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
