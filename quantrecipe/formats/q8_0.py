"""Q8_0: a scale for 32 weights.

    32 weights → f16 d, 32 × int8 q (34 bytes)

    x ≈ d * q

ggml: block_q8_0, quantize_row_q8_0_ref. Importance has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, ENCODE, decode_rows, encode_rows, kernel
from quantrecipe.core.bits import MAGNITUDE, as_float, place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import away_from_zero, select

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Q8_0"]

F32 = np.float32
I8 = np.int8
U8 = np.uint8
U32 = np.uint32
ZERO, ONE, INF = F32(0), F32(1), F32(np.inf)
TOP = F32(127)

N, BYTES = 32, 34


class Q8_0(QuantFormat):  # noqa: N801  # the field's name
    """8.5 bits, with a scale for 32 weights."""

    spec = FormatSpec(
        name="Q8_0",
        ggml_type=8,
        block=N,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        error_bound=0.008,
        fallback="F16",
        file_type=7,  # LLAMA_FTYPE_MOSTLY_Q8_0
        summary="8 bits: as good as the original, at half its size",
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
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    length = trips(N, x)
    for block in range(x.size // N):
        first, at = place(block * N), place(block * BYTES)
        d = get_half(source, at)
        for i in range(length):
            x[first + i] = F32(I8(source[at + 2 + i])) * d
