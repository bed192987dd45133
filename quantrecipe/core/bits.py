"""Bits and bytes: those of a float32, several bytes as one number, and what the compiler should know of arrays."""

from __future__ import annotations

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import U32, Bytes, Float, Floats, Int

__all__ = [
    "BIT_OF_EACH_BYTE", "EACH_BYTE", "LOWER_HALVES", "MAGNITUDE",
    "aligned", "as_bits", "as_float", "get_word", "place", "trips",
]  # fmt: skip

MAGNITUDE = np.uint32(0x7FFFFFFF)
"""All but the sign. Finite floats of one sign are in the order of their bits, and an integer maximum vectorises."""

EACH_BYTE = np.uint64(0x0101010101010101)
"""The lowest bit of each of eight bytes."""
LOWER_HALVES = np.uint64(0x0F0F0F0F0F0F0F0F)
"""The lower four bits of each of eight bytes."""
BIT_OF_EACH_BYTE = np.uint64(0x0102040810204080)
"""Times eight bytes of 0 or 1: the highest byte of the product has the c-th of them in bit c."""

PLACES = (1 << 48) - 1
"""No array is longer, so that an index loses nothing."""
CACHE_LINE = 16
"""float32 in a cache line."""


@kernel
def as_bits(value: Float) -> Int:
    """The 32 bits of a float32."""
    return np.float32(value).view(np.uint32)


@kernel
def as_float(bits: Int) -> Float:
    """The float32 with these 32 bits. numba computes integers in 64 bits: what is above the 32nd falls off."""
    return np.uint32(bits).view(np.float32)


@kernel
def place(index: Int) -> Int:
    """The same index, 0 or more. Say so once where an array is read from a computed place on.

    In Python a negative index counts from the end; where LLVM can't rule it out, plain loads become gathers.
    """
    return index & PLACES


@kernel
def trips(n: Int, x: Floats) -> Int:
    """n, for an array x of n or more items: the trips of a short loop, as a number that LLVM doesn't know.

    A short loop of known length is unrolled before anybody tries to vectorise it, which was measured to cost up to
    ten times; one of unknown length is vectorised.
    """
    return min(n, x.size)


@kernel
def get_word(data: Bytes, at: Int) -> Int:
    """The uint32 in four bytes from `at` on, which need no alignment."""
    low = U32(U32(data[at]) | U32(U32(data[at + 1]) << U32(8)))
    high = U32(U32(data[at + 2]) | U32(U32(data[at + 3]) << U32(8)))
    return U32(low | U32(high << U32(16)))


@kernel
def aligned(count: Int) -> Floats:
    """count float32, not yet set, from the start of a cache line on.

    So no vector of them lies across two lines, which takes a third off a loop that waits for its loads.
    """
    room = np.empty(count + CACHE_LINE, np.float32)
    first = place(-(room.ctypes.data >> 2) & (CACHE_LINE - 1))
    return room[first : first + count]
