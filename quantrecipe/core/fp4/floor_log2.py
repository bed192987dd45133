"""floor(log2f(x)) as C's float32 function has it, which is not always the exponent of x.

log2f rounds its result to float32. Just below a power of two 2^k the logarithm is nearer to k than to any other
float32, so some numbers below 2^k count as 2^k: none for k from -1 to 2, the last 44 below 2^128.
"""

from __future__ import annotations

from math import floor, log

import numpy as np

from quantrecipe.core.bits import as_bits
from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import F32, I32, U32, Int

__all__ = ["floor_log2"]

LOWEST = I32(-149)  # the smallest denormal is 2^-149
FRACTION = I32(23)
BIAS = I32(127)


def _round_up_to(k: int) -> int:
    """How many numbers of 24 bits just below 2^k have a logarithm that rounds to k."""
    if k == 0:
        return 0  # float32 are dense around 0
    # The j-th has the logarithm k - j * 2^-24 / ln 2; it rounds to k within half the distance from k to the float32
    # below. Towards zero from a power of two, that distance is half as large.
    step = abs(float(np.spacing(np.float32(k)))) / (2 if k > 0 and k & (k - 1) == 0 else 1)
    return floor(step / 2 * log(2) * 2**24)


ROUND_UP = np.array([_round_up_to(e + 1) for e in range(int(LOWEST), 128)], np.int32)
"""By the exponent of x, from -149."""


@kernel
def floor_log2(size: Int) -> Int:
    """floor(log2f(x)), int32 from -149 to 128, of a positive float32 given by its bits (uint32)."""
    normal = size >= U32(1 << 23)
    # A denormal is a whole number times 2^-149.
    bits = I32(size) if normal else I32(as_bits(F32(size)))
    offset = BIAS if normal else I32(BIAS - LOWEST)
    exponent = I32(I32(bits >> FRACTION) - offset)
    return I32(I32(I32(bits + ROUND_UP[exponent - LOWEST]) >> FRACTION) - offset)
