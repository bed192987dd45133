"""IQ4_NL: a scale for 32 weights, and sixteen values that lie closer together around zero.

    32 weights → f16 d, 16 × two 4-bit indices (18 bytes)
    byte 2 + i holds the index of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * VALUES[index]

ggml: block_iq4_nl, quantize_iq4_nl. The values are in `core/scale_searches/iq4_nl_values.py`.
"""

from __future__ import annotations

from quantrecipe.core import DECODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.scalars import U8, ZERO, Bytes, Floats, Int
from quantrecipe.core.scale_searches.iq4_nl_values import (
    GROUP,
    SCALE,
    VALUES,
    encoders,
    put_indices,
    round_values,
)

__all__ = ["KERNELS"]

BYTES = 18


@kernel
def _finish(x: Floats, block: Int, s: Floats, lane: Int, to: Bytes) -> None:
    """Round and pack with the scale that was found; ggml rounds with it as it was before it became an f16."""
    at = block * BYTES
    put_half(to, at, s[SCALE + lane])
    round_values(x, block * GROUP, s[SCALE + lane], to, at + 2)


_encode, _encode_weighted = encoders(GROUP, _finish)


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // GROUP):
        first, at = block * GROUP, block * BYTES
        d = get_half(source, at)
        for i in range(GROUP // 2):
            q = source[at + 2 + i]
            x[first + i] = d * VALUES[q & U8(15)]
            x[first + GROUP // 2 + i] = d * VALUES[q >> U8(4)]


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for block in range(to.size):
        to[block] = get_half(source, block * BYTES)


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    indices, to = choices.reshape(choices.size), data.reshape(data.size)
    for block in range(indices.size // GROUP):
        put_indices(indices, block * GROUP, to, block * BYTES + 2)


GRID = GridKernels(values=tuple(VALUES.tolist()), group=GROUP, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode, grid=GRID)
