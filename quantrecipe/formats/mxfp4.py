"""MXFP4: 4-bit floats with a power of two for 32 of them, as the OCP Microscaling standard has it.

    32 weights → u8 e, 16 × two 4-bit q (17 bytes)
    byte 1 + i holds q of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ 2^(e - 128) * twice the value of q (see `core/fp4/e2m1.py`)

ggml: block_mxfp4, quantize_row_mxfp4_ref. Importance has no effect.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.bits import as_float
from quantrecipe.core.fp4.e2m1 import TWICE_VALUES, bounds, nearest_e2m1, twice_value
from quantrecipe.core.fp4.floor_log2 import floor_log2
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.largest_sizes import largest_sizes
from quantrecipe.core.scalars import I32, U8, U32, ZERO, Bytes, Float, Floats, Int

__all__ = ["KERNELS"]

N, BYTES = 32, 17

_sizes = largest_sizes(N)


@kernel
def _scale(e: Int) -> Float:
    """2^(e - 128); the smallest two are denormal."""
    return as_float(U32(U32(e) - U32(1)) << U32(23)) if e > I32(1) else as_float(U32(0x00200000) << U32(e))


@disjoint_kernel
def _put(x: Floats, up_to: Floats, to: Bytes) -> None:
    for i in range(N // 2):
        low, high = nearest_e2m1(x[i], up_to), nearest_e2m1(x[N // 2 + i], up_to)
        to[1 + i] = U8(low | U8(high << U8(4)))


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // N
    x, to = rows.reshape(blocks, N), out.reshape(blocks, BYTES)
    largest = np.empty(blocks, np.uint32)
    _sizes(rows.reshape(rows.size).view(np.uint32), largest)
    for b in range(blocks):
        # Negative exponents wrap, as in ggml; all weights are then far below the bounds, and zero.
        e = I32(I32(floor_log2(largest[b]) + I32(125)) & I32(255)) if largest[b] != U32(0) else I32(0)
        to[b, 0] = U8(e)
        _put(x[b], bounds(_scale(e)), to[b])


@disjoint_kernel
def _get(source: Bytes, scale: Float, x: Floats) -> None:
    for i in range(N // 2):
        byte = U32(source[1 + i])
        x[i] = twice_value(U32(byte & U32(15))) * scale
        x[N // 2 + i] = twice_value(U32(byte >> U32(4))) * scale


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    blocks = rows.size // N
    x, source = rows.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        _get(source[b], _scale(I32(source[b, 0])), x[b])


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for b in range(to.size):
        to[b] = _scale(I32(source[b * BYTES]))


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // N
    q, to = choices.reshape(blocks, N), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for i in range(N // 2):
            to[b, 1 + i] = U8(q[b, i] | U8(q[b, N // 2 + i] << U8(4)))


GRID = GridKernels(values=TWICE_VALUES, group=N, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
