"""The bits of a float32, and back; and two hints to the compiler about the loops over them."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel

__all__ = ["MAGNITUDE", "as_bits", "as_float", "place", "trips"]

MAGNITUDE = np.uint32(0x7FFFFFFF)
"""All but the sign. Finite floats of one sign are in the order of their bits, and an integer maximum vectorises."""

PLACES = (1 << 48) - 1


@kernel
def as_bits(value: Any) -> Any:
    """The 32 bits of a float32."""
    return np.float32(value).view(np.uint32)


@kernel
def as_float(bits: Any) -> Any:
    """The float32 with these 32 bits. numba computes integers in 64 bits: what is above the 32nd falls off."""
    return np.uint32(bits).view(np.float32)


@kernel
def place(index: Any) -> Any:
    """The same index, 0 or more. Say so once where an array is read from a computed place on.

    In Python a negative index counts from the end; where LLVM can't rule it out, plain loads become gathers.
    """
    return index & PLACES


@kernel
def trips(n: Any, x: Any) -> Any:
    """n, for an array x of n or more items: the trips of a short loop, as a number that LLVM doesn't know.

    A short loop of known length is unrolled before anybody tries to vectorise it, which was measured to cost up to
    ten times; one of unknown length is vectorised.
    """
    return min(n, x.size)
