"""Fours of 4-bit indices whose sixteen bits hold an even number of ones, so that fifteen bits store them.

ik_llama.cpp: prune_iq4ks. Where the nearest indices have an odd number, one of the four gives way to its *rival*: the
best of the indices up to two away that change the parity. Of the four, the one moves that loses least by it.

What a weight x loses by its rival is w * ((d v - x)² - (d u - x)²), v being the rival's value and u the index's; the
reference takes u from the plain table even where the group has the shifted one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.scalars import F32, I32, Float, Int

from quantrecipe_ik.core.value_tables import FOUR_BITS, index_near, signed_byte

__all__ = ["is_odd", "rival_index", "rival_of"]

COUNT, REACH, RIVALS = 16, 2, 3
ODD = I32(sum((i.bit_count() % 2) << i for i in range(COUNT)))


def _rivals() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 (16, 4): each index's rivals, rising, the last one repeated; the fourth is not used."""
    table = np.zeros((COUNT, RIVALS + 1), np.uint8)
    for index in range(COUNT):
        near = range(max(index - REACH, 0), min(index + REACH, COUNT - 1) + 1)
        rivals = [other for other in near if (other.bit_count() - index.bit_count()) % 2]
        table[index] = rivals + [rivals[-1]] * (RIVALS + 1 - len(rivals))
    return table


INDICES = _rivals().ravel().view("<i4").astype(I32)


@kernel
def is_odd(index: Int) -> Int:
    """1 for an index (int32, 0 to 15) with an odd number of ones, else 0."""
    return I32(I32(ODD >> index) & I32(1))


@kernel
def rival_index(index: Int, which: Int) -> Int:
    """The index (int32) of a rival, as `rival_of` numbers them."""
    return I32(I32(INDICES[index] >> I32(8 * which)) & I32(15))


@cache
def rival_of(values: tuple[int, ...]) -> Callable[..., Any]:
    """The kernel rival(y, x, w, d): (index, value, which, rival's value, loss) of a weight x that counts w.

    The index is that of the value nearest to y; the rival, and what is lost by it, are for the scale d.
    """
    near = index_near(FOUR_BITS, values)
    packed_values = np.array(values, np.int8)[_rivals()].ravel().view("<i4").astype(I32)
    shift = F32(values[0] - FOUR_BITS.plain[0])

    @kernel
    def rival(y: Float, x: Float, w: Float, d: Float) -> tuple[Int, Float, Int, Float, Float]:
        index, value = near(y)
        packed = packed_values[index & 15]
        off = d * (value - shift) - x
        square = off * off
        other, which = signed_byte(packed, 0), I32(0)
        off = d * other - x
        least = w * (off * off - square)
        for i in range(1, RIVALS):
            next_one = signed_byte(packed, i)
            off = d * next_one - x
            loss = w * (off * off - square)
            less = loss < least
            other, which, least = (
                next_one if less else other,
                I32(i) if less else which,
                loss if less else least,
            )
        return index, value, which, other, least

    return rival
