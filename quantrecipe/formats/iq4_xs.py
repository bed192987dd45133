"""IQ4_XS: super-blocks of 8 groups of 32 weights with a 6-bit scale each, and the sixteen values of IQ4_NL.

    256 weights → f16 d, u16 upper bits of 8 scales, 4 × lower bits of two scales, 128 × two 4-bit indices (136 bytes)
    bytes 2 and 3 hold the upper bits of scale g in bits 2 g and 2 g + 1
    byte 4 + p holds the lower bits of scale 2 p in its lower half, of scale 2 p + 1 in its upper half
    byte 8 + 16 g + i holds the index of weight 32 g + i in its lower half, of weight 32 g + 16 + i in its upper half

    x ≈ d * (scale - 32) * VALUES[index]

ggml: block_iq4_xs, quantize_iq4_xs. The values are in `core/scale_searches/iq4_nl_values.py`.
"""

from __future__ import annotations

from quantrecipe.core import DECODE, GRID_PUT, GRID_SCALES, GRID_STEPS, GridKernels, Kernels, kernel
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.lanes import first_largest, nearest_int
from quantrecipe.core.scalars import F32, I32, ONE, U8, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.core.scale_searches.iq4_nl_values import (
    GROUP,
    SCALE,
    VALUES,
    encoders,
    put_indices,
    round_values,
)

__all__ = ["KERNELS"]

STEPS = F32(32)
LEAST, MOST = I32(-32), I32(31)

BYTES = 136
GROUPS = SUPERBLOCK // GROUP
UPPER, LOWER, INDICES = 2, 4, 8


@kernel
def _finish(x: Floats, block: Int, s: Floats, lane: Int, to: Bytes) -> None:
    """Quantize the scales of the super-block whose groups begin at this lane, round its weights with them, pack."""
    at = block * BYTES
    d = -first_largest(s, SCALE + lane, GROUPS) / STEPS  # -0.0 for an empty block, as in ggml
    iscale = ONE / d if d != ZERO else ZERO
    put_half(to, at, d)
    to[at + UPPER : at + INDICES] = U8(0)
    for g in range(GROUPS):
        q = min(max(nearest_int(iscale * s[SCALE + lane + g]), LEAST), MOST)
        round_values(x, block * SUPERBLOCK + g * GROUP, d * F32(q), to, at + INDICES + g * GROUP // 2)
        stored = U8(q - LEAST)
        to[at + LOWER + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
        to[at + UPPER + g // 4] |= U8((stored >> U8(4)) << U8(2 * (g % 4)))


_encode, _encode_weighted = encoders(SUPERBLOCK, _finish)


@kernel
def _get_scale(source: Bytes, at: Int, g: Int) -> Float:
    """Scale g of the super-block at source[at:], -32 to 31, as float32."""
    low = (source[at + LOWER + g // 2] >> U8(4 * (g % 2))) & U8(15)
    high = (source[at + UPPER + g // 4] >> U8(2 * (g % 4))) & U8(3)
    return F32(I32(low) + I32(high) * I32(16) + LEAST)


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = block * BYTES
        d = get_half(source, at)
        for g in range(GROUPS):
            scale = d * _get_scale(source, at, g)
            first, indices = block * SUPERBLOCK + g * GROUP, at + INDICES + g * GROUP // 2
            for i in range(GROUP // 2):
                q = source[indices + i]
                x[first + i] = scale * VALUES[q & U8(15)]
                x[first + GROUP // 2 + i] = scale * VALUES[q >> U8(4)]


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for block in range(to.size // GROUPS):
        d = get_half(source, block * BYTES)
        for g in range(GROUPS):
            to[block * GROUPS + g] = d * _get_scale(source, block * BYTES, g)


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    indices, to = choices.reshape(choices.size), data.reshape(data.size)
    for group in range(indices.size // GROUP):
        at = group // GROUPS * BYTES + INDICES + group % GROUPS * (GROUP // 2)
        put_indices(indices, group * GROUP, to, at)


@kernel(GRID_STEPS)
def _grid_put_steps(steps: Ints, lows: Ints, data: Bytes) -> None:  # it has no offsets
    blocks = steps.size // GROUPS
    from_, to = steps.reshape(blocks, GROUPS), data.reshape(blocks, BYTES)
    for b in range(blocks):
        to[b, UPPER:INDICES] = U8(0)
        for g in range(GROUPS):
            stored = U8(from_[b, g] - LEAST)
            to[b, LOWER + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
            to[b, UPPER + g // 4] |= U8((stored >> U8(4)) << U8(2 * (g % 4)))


GRID = GridKernels(
    values=tuple(VALUES.tolist()), group=GROUP, scales=_grid_scales, put=_grid_put,
    steps=(-32, 31), put_steps=_grid_put_steps,
)  # fmt: skip
KERNELS = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode, grid=GRID)
