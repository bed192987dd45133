"""The 4-bit float of MXFP4 and NVFP4: a sign, two bits of exponent, one of fraction.

    q          0   1   2   3   4   5   6   7   with bit 3 set: the negative ones
    twice the  0   1   2   3   4   6   8  12
    value

ggml: kvalues_mxfp4, best_index_mxfp4: the first of the sixteen whose distance to x, a float32, is smallest. So ties go
to the smaller size, and what comes to zero is never -0.
"""

from __future__ import annotations

from quantrecipe.core.bits import MAGNITUDE, as_bits, as_float
from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import F32, I32, INF, U8, U32, Float, Floats, Int

__all__ = ["TWICE_VALUES", "bounds", "nearest_e2m1", "twice_value"]

TWICE_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
"""By q. What is negative and zero is decoded to 0."""
EIGHT_NIBBLES = U32(0xC8643210)  # twice the values of q = 0 … 7, four bits each


@kernel
def bounds(scale: Float) -> tuple[Float, ...]:
    """The sizes up to which x, at a scale not above 2^125, goes to twice values 0, 1, 2, 3, 4, 6 and 8.

    The midpoints are exact in float32: up to 20 times a power of two or a number of four bits. With a scale of 0
    everything goes to 0; where 8 times the scale is infinite, nothing goes there.
    """
    last = F32(7) * scale if F32(8) * scale < INF else INF
    none = scale == F32(0)
    return (
        INF if none else F32(0.5) * scale,
        INF if none else F32(1.5) * scale,
        INF if none else F32(2.5) * scale,
        INF if none else F32(3.5) * scale,
        INF if none else F32(5) * scale,
        INF if none else last,
        INF if none else F32(10) * scale,
    )


@kernel
def nearest_e2m1(x: Float, up_to: Floats) -> Int:
    """The q (uint8) of a float32 whose size is at most 16 times the scale that `bounds` got."""
    size = as_float(as_bits(x) & MAGNITUDE)
    a, b, c, d, e, f, g = up_to
    q = U8(U8(U8(size > a) + U8(size > b)) + U8(U8(size > c) + U8(size > d)))
    q = U8(q + U8(U8(size > e) + U8(U8(size > f) + U8(size > g))))
    return U8(q | U8(8)) if x < -a else q


@kernel
def twice_value(q: Int) -> Float:
    """Twice the value of q (uint32, 0 to 15), as float32."""
    size = I32(U32(EIGHT_NIBBLES >> U32(U32(q & U32(7)) * U32(4))) & U32(15))
    return F32(I32(-size) if U32(q & U32(8)) != U32(0) else size)
