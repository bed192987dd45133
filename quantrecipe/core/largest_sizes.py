"""What the sizes of the weights of each block come to, eight blocks at a time.

The largest: a loop over the few weights of one block is unrolled by LLVM into scalars before it could be vectorised;
one that serves eight blocks is too long for that.
The sum: a float32 sum in order has each addition wait for the one before; eight of them don't wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from quantrecipe.core.bits import MAGNITUDE
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.scalars import F32, U32, Floats, Ints

__all__ = ["largest_sizes", "sums_of_sizes"]


@cache
def largest_sizes(n: int) -> Callable[..., None]:
    """The kernel sizes(bits, found): found[b] = the bits of the largest size in block b.

    bits: flat float32 seen as uint32, blocks of n; found: uint32 (blocks,).
    """

    @disjoint_kernel
    def sizes(bits: Ints, found: Floats) -> None:
        eights = found.size // 8
        for e in range(eights):
            x = bits[8 * e * n : 8 * (e + 1) * n]
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = U32(0)
            for i in range(n):
                s0 = max(s0, U32(x[i] & MAGNITUDE))
                s1 = max(s1, U32(x[n + i] & MAGNITUDE))
                s2 = max(s2, U32(x[2 * n + i] & MAGNITUDE))
                s3 = max(s3, U32(x[3 * n + i] & MAGNITUDE))
                s4 = max(s4, U32(x[4 * n + i] & MAGNITUDE))
                s5 = max(s5, U32(x[5 * n + i] & MAGNITUDE))
                s6 = max(s6, U32(x[6 * n + i] & MAGNITUDE))
                s7 = max(s7, U32(x[7 * n + i] & MAGNITUDE))
            for j, size in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
                found[8 * e + j] = size
        for b in range(8 * eights, found.size):
            size = U32(0)
            for i in range(n):
                size = max(size, U32(bits[b * n + i] & MAGNITUDE))
            found[b] = size

    return sizes


@cache
def sums_of_sizes(n: int) -> Callable[..., None]:
    """The kernel sums(x, found): found[b] = the sum, in order, of the sizes in block b.

    x: flat float32, blocks of n; found: float32 (blocks,).
    """

    @disjoint_kernel
    def sums(x: Floats, found: Floats) -> None:
        eights = found.size // 8
        for e in range(eights):
            y = x[8 * e * n : 8 * (e + 1) * n]
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = F32(0)
            for i in range(n):
                s0 += abs(y[i])
                s1 += abs(y[n + i])
                s2 += abs(y[2 * n + i])
                s3 += abs(y[3 * n + i])
                s4 += abs(y[4 * n + i])
                s5 += abs(y[5 * n + i])
                s6 += abs(y[6 * n + i])
                s7 += abs(y[7 * n + i])
            for j, total in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
                found[8 * e + j] = total
        for b in range(8 * eights, found.size):
            total = F32(0)
            for i in range(n):
                total += abs(x[b * n + i])
            found[b] = total

    return sums
