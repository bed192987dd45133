"""NVFP4: 4-bit floats with an 8-bit float for 16 of them.

    64 weights → 4 × ue4m3 d (see `core/fp4/ue4m3.py`), 4 × 8 × two 4-bit q (36 bytes)
    byte 4 + 8 g + i holds q of weight 16 g + i in its lower half, of weight 16 g + 8 + i in its upper half

    x ≈ factor * d / 2 * twice the value of q (see `core/fp4/e2m1.py`)

d has no sign and goes from 2^-9 to 448, so each matrix has a factor of its own: see `nvfp4_factor.py`.
Importance has no effect.

ggml: block_nvfp4, quantize_row_nvfp4_ref.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.bits import LOWER_HALVES, as_float, get_word
from quantrecipe.core.fp4.e2m1 import TWICE_VALUES, bounds, nearest_e2m1, twice_value
from quantrecipe.core.fp4.ue4m3 import half_of_ue4m3, ue4m3_of
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.largest_sizes import largest_sizes
from quantrecipe.core.scalars import F32, I32, U8, U32, U64, ZERO, Bytes, Float, Floats, Ints

__all__ = ["KERNELS"]

N, BYTES = 64, 36
GROUP, GROUPS = 16, 4
SIX = F32(6)  # the largest 4-bit float
FAR = F32(2.0**20)
"""Weights so much larger than 6 * 448 that distances to several values may be the same float32."""

_sizes = largest_sizes(GROUP)


@disjoint_kernel
def _round(x: Floats, scales: Floats, levels: Bytes) -> None:
    a, b, c, d = bounds(scales[0]), bounds(scales[1]), bounds(scales[2]), bounds(scales[3])
    for i in range(GROUP):
        levels[i] = nearest_e2m1(x[i], a)
        levels[GROUP + i] = nearest_e2m1(x[GROUP + i], b)
        levels[2 * GROUP + i] = nearest_e2m1(x[2 * GROUP + i], c)
        levels[3 * GROUP + i] = nearest_e2m1(x[3 * GROUP + i], d)


@kernel
def _round_far(x: Floats, scale: Float, levels: Bytes) -> None:
    """The first of the sixteen values whose distance, as a float32, is smallest."""
    for i in range(GROUP):
        best = U32(0)
        for q in range(1, 16):
            distance = abs(twice_value(U32(q)) * scale - x[i])
            best = U32(q) if distance < abs(twice_value(best) * scale - x[i]) else best
        levels[i] = U8(best)


@disjoint_kernel
def _pack(eights: Ints, to: Bytes) -> None:
    for g in range(GROUPS):
        packed = U64(eights[2 * g] | U64(eights[2 * g + 1] << U64(4)))
        for c in range(8):
            to[8 * g + c] = U8(U64(packed >> U64(8 * c)) & U64(255))


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // N
    x, to = rows.reshape(blocks, N), out.reshape(blocks, BYTES)
    largest, scales = np.empty(blocks * GROUPS, np.uint32), np.empty(GROUPS, np.float32)
    levels = np.empty(N, np.uint8)
    eights = levels.view(np.uint64)
    _sizes(rows.reshape(rows.size).view(np.uint32), largest)
    for b in range(blocks):
        for g in range(GROUPS):
            byte = ue4m3_of(as_float(largest[b * GROUPS + g]) / SIX)
            to[b, g], scales[g] = U8(byte), half_of_ue4m3(byte)
        _round(x[b], scales, levels)
        for g in range(GROUPS):
            if as_float(largest[b * GROUPS + g]) > FAR:
                _round_far(x[b, GROUP * g :], scales[g], levels[GROUP * g :])
        _pack(eights, to[b, GROUPS:])


@disjoint_kernel
def _unpack(source: Bytes, eights: Ints) -> None:
    for g in range(GROUPS):
        low, high = U64(get_word(source, 8 * g)), U64(get_word(source, 8 * g + 4))
        packed = U64(low | U64(high << U64(32)))
        eights[2 * g] = U64(packed & LOWER_HALVES)
        eights[2 * g + 1] = U64(U64(packed >> U64(4)) & LOWER_HALVES)


@disjoint_kernel
def _values(levels: Bytes, scales: Floats, x: Floats) -> None:
    a, b, c, d = scales[0], scales[1], scales[2], scales[3]
    for i in range(GROUP):
        x[i] = twice_value(U32(levels[i])) * a
        x[GROUP + i] = twice_value(U32(levels[GROUP + i])) * b
        x[2 * GROUP + i] = twice_value(U32(levels[2 * GROUP + i])) * c
        x[3 * GROUP + i] = twice_value(U32(levels[3 * GROUP + i])) * d


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    blocks = rows.size // N
    x, source = rows.reshape(blocks, N), data.reshape(blocks, BYTES)
    scales, levels = np.empty(GROUPS, np.float32), np.empty(N, np.uint8)
    eights = levels.view(np.uint64)
    for b in range(blocks):
        for g in range(GROUPS):
            scales[g] = half_of_ue4m3(I32(source[b, g]))
        _unpack(source[b, GROUPS:], eights)
        _values(levels, scales, x[b])


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    blocks = scales.size // GROUPS
    source, to = data.reshape(blocks, BYTES), scales.reshape(blocks, GROUPS)
    offsets[:] = ZERO
    for b in range(blocks):
        for g in range(GROUPS):
            to[b, g] = half_of_ue4m3(I32(source[b, g]))


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // N
    q, to = choices.reshape(blocks, N), data.reshape(blocks, BYTES)
    levels = np.empty(N, np.uint8)  # choices themselves may lie anywhere, and aren't read as words
    eights = levels.view(np.uint64)
    for b in range(blocks):
        for i in range(N):
            levels[i] = q[b, i]
        _pack(eights, to[b, GROUPS:])


GRID = GridKernels(values=TWICE_VALUES, group=GROUP, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
