"""The 8-bit scale of NVFP4: a float without a sign, four bits of exponent (bias 7), three of fraction.

    byte   .eeeemmm    2^(e - 7) * (1 + m / 8); e = 0: m * 2^-9; 0x7F is no number, and counts as 0

ggml: ggml_fp32_to_ue4m3, which rounds halves up, and ggml_ue4m3_to_fp32, which gives half the value: what goes with it
is twice the value of a 4-bit float (see `e2m1.py`).
"""

from __future__ import annotations

from quantrecipe.core.bits import as_bits, as_float
from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import F32, HALF, I32, U32, Float, Int

__all__ = ["LARGEST_UE4M3", "half_of_ue4m3", "ue4m3_of"]

LARGEST_UE4M3 = I32(0x7E)
"""448."""
NO_NUMBER = I32(0x7F)
SMALLEST_NORMAL = F32(2.0**-6)
BEYOND = F32(256)
PER_STEP, HALF_STEP = F32(512), F32(2.0**-10)
REBIAS = I32((127 - 7) << 3)


@kernel
def ue4m3_of(value: Float) -> Int:
    """The byte (int32) nearest to a float32 that isn't negative."""
    small = min(I32(min(value, SMALLEST_NORMAL) * PER_STEP + HALF), I32(7))
    # Three bits of fraction, and the next one rounds up; it may carry into the exponent.
    bits = I32(as_bits(value) >> U32(19))
    normal = I32(I32(I32(bits >> I32(1)) + I32(bits & I32(1))) - REBIAS)
    # What rounding carries to an exponent of 15 becomes 448 in ggml, as does what has that exponent.
    normal = LARGEST_UE4M3 if (value >= BEYOND) | (normal >= I32(15 << 3)) else normal
    return small if value < SMALLEST_NORMAL else normal


@kernel
def half_of_ue4m3(byte: Int) -> Float:
    """Half the value of a byte (int32), as float32. The eighth bit has no meaning."""
    exponent, fraction = I32(I32(byte >> I32(3)) & I32(15)), I32(byte & I32(7))
    normal = as_float(U32(I32(I32(exponent + I32(127 - 8)) << I32(23)) | I32(fraction << I32(20))))
    value = normal if exponent != I32(0) else F32(fraction) * HALF_STEP
    return F32(0) if byte == NO_NUMBER else value
