"""Weights rounded to -1, 0 or 1 times the largest size of their super-block: what TQ1_0 and TQ2_0 share.

ggml: quantize_row_tq1_0_ref, quantize_row_tq2_0_ref.
"""

from __future__ import annotations

from quantrecipe.core.bits import MAGNITUDE, as_float
from quantrecipe.core.jit import kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.scalars import HALF, INF, ONE, U8, U32, ZERO, Float, Int, Ints

__all__ = ["inverse_size", "trit"]


@kernel
def inverse_size(bits: Ints) -> tuple[Float, Float]:
    """The largest size d of the weights of a super-block, given as uint32, and 1 / d.

    0 in place of 1 / d where d is 0, and where 1 / d is infinite: ggml's conversion of infinite and undefined quotients
    to integers gives 0.
    """
    size = U32(0)
    for i in range(SUPERBLOCK):
        size = max(size, U32(bits[i] & MAGNITUDE))
    d = as_float(size)
    iscale = ONE / d if d != ZERO else ZERO
    return d, iscale if iscale < INF else ZERO


@kernel
def trit(value: Float) -> Int:
    """The integer nearest to a float32 from -1 to 1, halves away from zero, plus one: 0, 1 or 2."""
    return U8(U8(U8(1) + U8(value >= HALF)) - U8(value <= -HALF))
