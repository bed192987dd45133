"""Q8_0: a scale for 32 weights.

    32 weights → f16 d, 32 × int8 q (34 bytes)

    x ≈ d * q

ggml: block_q8_0, quantize_row_q8_0_ref. Importance has no effect.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.bits import as_float, place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.lanes import away_from_zero, select
from quantrecipe.core.largest_sizes import largest_sizes
from quantrecipe.core.scalars import F32, I8, INF, ONE, U8, ZERO, Bytes, Float, Floats, Ints

__all__ = ["KERNELS"]

TOP = F32(127)

N, BYTES = 32, 34

_largest_sizes = largest_sizes(N)


@disjoint_kernel
def _divide(sizes: Ints, d: Floats, iscale: Floats) -> None:
    """Of the bits of each block's largest size, its scale and what its weights are multiplied by."""
    for b in range(sizes.size):
        d[b] = as_float(sizes[b]) / TOP
        inverse = select(d[b] != ZERO, ONE / d[b], ZERO)
        # ggml's conversion of an infinite quotient to int8 gives 0.
        iscale[b] = select(inverse < INF, inverse, ZERO)


@disjoint_kernel
def _round(x: Floats, iscale: Float, levels: Bytes) -> None:
    for i in range(N):
        levels[i] = U8(I8(away_from_zero(x[i] * iscale)))


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // N
    x, to = rows.reshape(blocks, N), out.reshape(blocks, BYTES)
    sizes, d, iscale = np.empty(blocks, np.uint32), np.empty(blocks, np.float32), np.empty(blocks, np.float32)
    _largest_sizes(rows.reshape(rows.size).view(np.uint32), sizes)
    _divide(sizes, d, iscale)
    for b in range(blocks):
        put_half(to[b], 0, d[b])
        _round(x[b], iscale[b], to[b, 2:])


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    length = trips(N, x)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        d = get_half(source, at)
        for i in range(length):
            x[first + i] = F32(I8(source[at + 2 + i])) * d


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for block in range(to.size):
        to[block] = get_half(source, place(block * BYTES))


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // N
    levels, to = choices.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for i in range(N):
            to[b, 2 + i] = U8(levels[b, i] - U8(127))


GRID = GridKernels(values=tuple(range(-127, 128)), group=N, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
