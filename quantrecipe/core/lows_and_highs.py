"""The lowest and the highest weight of each block, at the speed of integers.

A float minimum may not be vectorised, since it would have to say which of 0 and -0 it means. Integers may: the bits
of a float32 are in its order once those of negative ones are turned round. A loop over one short block would be
unrolled into scalars; one that serves four isn't.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.bits import MAGNITUDE, as_float
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import select
from quantrecipe.core.scalars import I32, U32, ZERO, Float, Floats, Int, Ints

__all__ = ["first_peaks", "lows_and_highs"]

LARGEST = I32(0x7FFFFFFF)
SMALLEST = I32(-0x80000000)


@kernel
def _turned(bits: Int) -> Int:
    """The key of a float32's bits, int32; or the bits of a key."""
    return I32(bits ^ I32(I32(bits >> I32(31)) & I32(MAGNITUDE)))


@kernel
def _float_of(key: Int) -> Float:
    return as_float(U32(_turned(I32(key))))


@cache
def lows_and_highs(n: int) -> Callable[..., None]:
    """The kernel find(x, low, high) for flat x, blocks of n: low[b] and high[b], float32, of each block.

    Of zeros, the first one counts.
    """

    @disjoint_kernel
    def find_keys(bits: Ints, low: Floats, high: Floats) -> None:
        fours = low.size // 4
        for f in range(fours):
            x = bits[4 * f * n : 4 * (f + 1) * n]
            a = b = c = d = LARGEST
            e = g = h = k = SMALLEST
            for i in range(n):
                key0, key1 = _turned(x[i]), _turned(x[n + i])
                key2, key3 = _turned(x[2 * n + i]), _turned(x[3 * n + i])
                a, e = min(a, key0), max(e, key0)
                b, g = min(b, key1), max(g, key1)
                c, h = min(c, key2), max(h, key2)
                d, k = min(d, key3), max(k, key3)
            for j, key in enumerate((a, b, c, d)):
                low[4 * f + j] = _float_of(key)
            for j, key in enumerate((e, g, h, k)):
                high[4 * f + j] = _float_of(key)
        for block in range(4 * fours, low.size):
            a, e = LARGEST, SMALLEST
            for i in range(n):
                key0 = _turned(bits[block * n + i])
                a, e = min(a, key0), max(e, key0)
            low[block], high[block] = _float_of(a), _float_of(e)

    @kernel
    def find(x: Floats, low: Floats, high: Floats) -> None:
        find_keys(x.view(np.int32), low, high)
        for block in range(low.size):
            if low[block] == ZERO or high[block] == ZERO:
                y = x[block * n : (block + 1) * n]
                for i in range(n - 1, -1, -1):
                    low[block] = y[i] if y[i] == low[block] else low[block]
                    high[block] = y[i] if y[i] == high[block] else high[block]

    return find


@disjoint_kernel
def first_peaks(x: Floats, low: Floats, high: Floats, peaks: Floats) -> None:
    """peaks[b] = the first of the weights of block b that are largest in size; 0 if all are 0.

    x: float32 (blocks, n); low, high: the lowest and the highest of each block, float32 (blocks,)
    """
    for b in range(low.size):
        peaks[b] = select(high[b] > -low[b], high[b], low[b])
    for b in range(low.size):
        if high[b] == -low[b]:
            peaks[b] = ZERO
            for i in range(x.shape[1] - 1, -1, -1):
                peaks[b] = x[b, i] if abs(x[b, i]) == high[b] and high[b] > ZERO else peaks[b]
