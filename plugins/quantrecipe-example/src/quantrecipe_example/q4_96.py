"""Q4_96: a scale for 96 weights.

    96 weights → f16 d, 48 × two 4-bit q (50 bytes)
    byte 2 + i holds q of weight i in its lower half, of weight 48 + i in its upper half

    x ≈ d * (q - 8)

d is a -8th of the weight that is largest in magnitude, which so is met exactly, and whose side has one more step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from quantrecipe.api import FormatSpec, QuantFormat
from quantrecipe.core import DECODE, ENCODE, decode_rows, encode_rows, kernel
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import select

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Q4_96"]

F32 = np.float32
I32 = np.int32
U8 = np.uint8
ZERO, HALF, ONE, MIDDLE, TOP = F32(0), F32(0.5), F32(1), F32(8), F32(15)
LARGEST_SCALE = F32(65504)  # of float16

N, BYTES = 96, 50


class Q4_96(QuantFormat):  # formats are named as recipes write them
    """4.17 bits, for rows that 256 doesn't divide."""

    spec = FormatSpec(
        name="Q4_96",
        ggml_type=1001,
        block=N,
        block_bytes=BYTES,
        dialect="example",
        importance="ignored",
        exactness="the same bytes on every machine",
        error_bound=0.15,
        fallback="Q4_0",
        summary="4 bits with a scale for 96 weights: for rows of 384, 1152 or 2880",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_rows(self.spec, rows, importance, out, plain=_encode)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    for block in range(x.size // N):
        first, at = block * N, block * BYTES
        peak = ZERO
        for i in range(N):
            value = x[first + i]
            peak = select(abs(value) > abs(peak), value, peak)
        put_half(to, at, max(-LARGEST_SCALE, min(LARGEST_SCALE, peak / -MIDDLE)))
        d = get_half(to, at)  # as it is stored, so that the codes make up for its rounding
        inverse = select(d != ZERO, ONE / d, ZERO)
        for i in range(N // 2):
            low, high = _code(x[first + i] * inverse), _code(x[first + N // 2 + i] * inverse)
            to[at + 2 + i] = low | U8(high << U8(4))


@kernel
def _code(steps: Any) -> Any:
    """The code nearest to a weight that is so many steps from zero."""
    return U8(I32(max(ZERO, min(TOP, steps + MIDDLE + HALF))))


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // N):
        first, at = block * N, block * BYTES
        d = get_half(source, at)
        for i in range(N // 2):
            q = source[at + 2 + i]
            x[first + i] = (F32(q & U8(15)) - MIDDLE) * d
            x[first + N // 2 + i] = (F32(q >> U8(4)) - MIDDLE) * d
