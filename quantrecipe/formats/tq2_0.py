"""TQ2_0: weights of three values, 2 bits each, and a scale for 256 of them.

    256 weights → 64 × four 2-bit q, f16 d (66 bytes)
    byte 32 h + i holds q of weight 128 h + 32 c + i in bits 2 c and 2 c + 1

    x ≈ d * (q - 1), q from 0 to 2; d is the largest size

ggml: block_tq2_0, quantize_row_tq2_0_ref. Importance has no effect.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.scalars import F32, I32, ONE, U8, ZERO, Bytes, Float, Floats
from quantrecipe.core.ternary import inverse_size, trit

__all__ = ["KERNELS"]

BYTES, D = 66, 64


@disjoint_kernel
def _put(x: Floats, iscale: Float, to: Bytes) -> None:
    """Store half a super-block."""
    for i in range(32):
        low = trit(x[i] * iscale) | U8(trit(x[32 + i] * iscale) << U8(2))
        high = trit(x[64 + i] * iscale) | U8(trit(x[96 + i] * iscale) << U8(2))
        to[i] = U8(low | U8(high << U8(4)))


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // SUPERBLOCK
    x, to = rows.reshape(blocks, SUPERBLOCK), out.reshape(blocks, BYTES)
    bits = x.view(np.uint32)
    for b in range(blocks):
        d, iscale = inverse_size(bits[b])
        put_half(to[b], D, d)
        _put(x[b], iscale, to[b])
        _put(x[b, 128:], iscale, to[b, 32:])


@disjoint_kernel
def _get(source: Bytes, d: Float, x: Floats) -> None:
    """The weights of half a super-block."""
    for i in range(32):
        byte = I32(source[i])
        for c in range(4):
            x[32 * c + i] = (F32(I32((byte >> I32(2 * c)) & I32(3))) - ONE) * d


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    blocks = rows.size // SUPERBLOCK
    x, source = rows.reshape(blocks, SUPERBLOCK), data.reshape(blocks, BYTES)
    for b in range(blocks):
        d = get_half(source[b], D)
        _get(source[b], d, x[b])
        _get(source[b, 32:], d, x[b, 128:])


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for b in range(to.size):
        to[b] = get_half(source, b * BYTES + D)


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // SUPERBLOCK
    q, to = choices.reshape(blocks, SUPERBLOCK), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for h in range(2):
            for i in range(32):
                first = 128 * h + i
                low = U8(q[b, first] | U8(q[b, first + 32] << U8(2)))
                high = U8(q[b, first + 64] | U8(q[b, first + 96] << U8(2)))
                to[b, 32 * h + i] = U8(low | U8(high << U8(4)))


GRID = GridKernels(values=(-1, 0, 1), group=SUPERBLOCK, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
