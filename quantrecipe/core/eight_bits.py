"""Numbers of 8 bits times scales, as float32: what models that were trained or published in 8 bits store.

    E4M3   sign, 4 bits of exponent (bias 7), 3 of mantissa; no Inf, NaN where all seven bits are set ("e4m3fn")
    E5M2   the upper half of a float16
    I8     an integer

A row's numbers share a scale in runs of `width`. The product is rounded once, as float32 products are.

Source: the OCP 8-bit floating point specification.
"""

from __future__ import annotations

from collections.abc import Callable

from quantrecipe.core.bits import as_bits, as_float, place
from quantrecipe.core.half import f16_value
from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import F32, I8, U32, Bytes, Float, Floats, Int

__all__ = ["rows_from_e4m3", "rows_from_e5m2", "rows_from_int8"]

SCALED = "void(Array(uint8, 2, 'C', True), Array(float32, 2, 'C', True), int64, float32[:,::1])"
REBIAS = U32((127 - 7) << 23)
SMALL = U32(0x46800000)
"""2^14, whose last place is 2^-9, the step of E4M3's smallest numbers."""
QUIET_NAN = U32(0x7FC00000)


@kernel
def _e4m3(byte: Int) -> Float:
    size = U32(byte) & U32(0x7F)
    wide = U32(U32(size << U32(20)) + REBIAS)
    small = as_bits(as_float(U32(size + SMALL)) - as_float(SMALL))
    bits = small if size < U32(8) else wide
    bits = U32(bits | U32(U32(U32(byte) & U32(0x80)) << U32(24)))
    return as_float(bits if size < U32(0x7F) else QUIET_NAN)


@kernel
def _e5m2(byte: Int) -> Float:
    return f16_value(U32(U32(byte) << U32(8)))


@kernel
def _int8(byte: Int) -> Float:
    return F32(I8(byte))


def _scaled(value: Callable[[Int], Float]) -> Callable[[Bytes, Floats, Int, Floats], None]:
    """The kernel rows(data, scales, width, rows).

    data: uint8 (n, k); scales: float32 (n, ceil(k / width)) → rows: float32 (n, k)
    """

    @kernel(SCALED)
    def rows_of(data: Bytes, scales: Floats, width: Int, rows: Floats) -> None:
        count = data.shape[1]
        source, x = data.reshape(data.size), rows.reshape(rows.size)
        for row in range(data.shape[0]):
            for run in range(scales.shape[1]):
                scale = scales[row, run]
                first = place(row * count + run * width)
                length = min(width, count - run * width)
                for i in range(length):
                    x[first + i] = value(source[first + i]) * scale

    return rows_of


rows_from_e4m3 = _scaled(_e4m3)
rows_from_e5m2 = _scaled(_e5m2)
rows_from_int8 = _scaled(_int8)
