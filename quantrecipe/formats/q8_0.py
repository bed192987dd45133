"""Q8_0: a scale for 32 weights.

    32 weights → f16 d, 32 × int8 q (34 bytes)

    x ≈ d * q

ggml: block_q8_0, quantize_row_q8_0_ref. Importance has no effect.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import DECODE, ENCODE, Kernels, kernel
from quantrecipe.core.bits import MAGNITUDE, as_float, place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import away_from_zero, select
from quantrecipe.core.scalars import F32, I8, INF, ONE, U8, U32, ZERO, Bytes, Floats

__all__ = ["KERNELS"]

TOP = F32(127)

N, BYTES = 32, 34


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    bits, length = x.view(np.uint32), trips(N, x)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        size = U32(0)
        for i in range(length):
            size = max(size, U32(bits[first + i] & MAGNITUDE))
        d = as_float(size) / TOP
        iscale = select(d != ZERO, ONE / d, ZERO)
        # ggml's conversion of an infinite quotient to int8 gives 0.
        iscale = select(iscale < INF, iscale, ZERO)
        put_half(to, at, d)
        for i in range(length):
            to[at + 2 + i] = U8(I8(away_from_zero(x[first + i] * iscale)))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    length = trips(N, x)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        d = get_half(source, at)
        for i in range(length):
            x[first + i] = F32(I8(source[at + 2 + i])) * d


KERNELS = Kernels(encode=_encode, decode=_decode)
