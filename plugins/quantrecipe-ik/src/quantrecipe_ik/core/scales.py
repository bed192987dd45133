"""Scales of groups as small integers, their levels, times one scale d of their super-block, or of their row.

`signed_levels` and `odd_levels` make the kernels levels(scales, counts, first, count, levels) → (d, empty)
that `uneven_kernels` takes: of count scales from `first` on, d, and whether they are all 0; levels[:count] is filled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.bits import as_bits, as_float
from quantrecipe.core.lanes import first_largest, nearest_int
from quantrecipe.core.scalars import F32, HALF, I32, ONE, U8, U32, ZERO, Bytes, Float, Floats, Int, Ints

__all__ = [
    "fit_scales",
    "get_float",
    "inverse",
    "largest_size",
    "odd_level",
    "odd_levels",
    "put_float",
    "signed_level",
    "signed_levels",
]

MOST_ODD = I32(127)
STEP, STEPS = F32(0.1), 9
"""ik_llama.cpp: make_qx_quants makes the scale of largest size -nmax, and for eighteen tries a little more or less."""


@kernel
def largest_size(scales: Floats, first: Int, count: Int) -> Float:
    """The largest size of count scales from `first` on; 0 if all are 0."""
    return abs(first_largest(scales, first, count))


@kernel
def inverse(scale: Float) -> Float:
    """1 / scale, and 0 for 0."""
    return ONE / scale if scale != ZERO else ZERO


@kernel
def signed_level(value: Float, steps: Int) -> Int:
    """The integer (int32) nearest to a float32, from -steps to steps - 1."""
    return min(max(nearest_int(value), I32(-steps)), I32(steps - 1))


@kernel
def odd_level(value: Float) -> Int:
    """The odd integer from -127 to 127 nearest to a float32: 2 l - 127, as int32."""
    l = min(max(nearest_int(HALF * (value + F32(127))), I32(0)), MOST_ODD)  # noqa: E741  # ik_llama.cpp's name
    return I32(I32(2) * l - MOST_ODD)


@kernel
def put_float(out: Bytes, at: Int, value: Float) -> None:
    """Store a little-endian float32."""
    bits = as_bits(value)
    for i in range(4):
        out[at + i] = U8(U32(bits >> U32(8 * i)) & U32(0xFF))


@kernel
def get_float(data: Bytes, at: Int) -> Float:
    """The little-endian float32 at a place."""
    bits = U32(0)
    for i in range(4):
        bits = U32(bits | (U32(data[at + i]) << U32(8 * i)))
    return as_float(bits)


@cache
def signed_levels(lowest: int, highest: int) -> Callable[..., Any]:
    """The levels nearest to scale / d, from lowest to highest; the scale of largest size gets the lowest."""
    low, high, steps = I32(lowest), I32(highest), F32(-lowest)

    @kernel
    def levels_of(scales: Floats, counts: Floats, first: Int, count: Int, levels: Ints) -> tuple[Float, Int]:
        peak = first_largest(scales, first, count)
        d = -peak / steps
        iscale = inverse(d)
        for g in range(count):
            levels[g] = min(max(nearest_int(iscale * scales[first + g]), low), high)
        return d, peak == ZERO

    return levels_of


@kernel
def odd_levels(scales: Floats, counts: Floats, first: Int, count: Int, levels: Ints) -> tuple[Float, Int]:
    """Odd levels from -127 to 127."""
    size = largest_size(scales, first, count)
    d = size / F32(127)
    iscale = inverse(d)
    for g in range(count):
        levels[g] = odd_level(iscale * scales[first + g])
    return d, size == ZERO


@kernel
def fit_scales(scales: Floats, counts: Floats, first: Int, count: Int, nmax: Int, levels: Ints) -> Float:
    """The best d for count scales from `first` on, weighted by counts; levels[:count], -nmax to nmax - 1, are filled.

    ik_llama.cpp: make_qx_quants.
    """
    peak = first_largest(scales, first, count)
    if peak == ZERO:
        levels[:count] = I32(-nmax)
        return ZERO
    low, high = I32(-nmax), I32(nmax - 1)
    best, d = ZERO, ZERO
    for step in range(-STEPS - 1, STEPS + 1):
        # First -nmax itself; its own turn among the steps is left out.
        if step == 0:
            continue
        plain = step < -STEPS
        iscale = F32(-nmax) / peak if plain else -(F32(nmax) + STEP * F32(step)) / peak
        sxl, sl2 = ZERO, ZERO
        for g in range(count):
            level = F32(min(max(nearest_int(iscale * scales[first + g]), low), high))
            w = counts[first + g]
            sxl += w * scales[first + g] * level
            sl2 += w * level * level
        if plain or (sl2 > ZERO and sxl * sxl > best * sl2):
            d = sxl / sl2 if sl2 != ZERO else ZERO
            best = d * sxl
            for g in range(count):
                levels[g] = min(max(nearest_int(iscale * scales[first + g]), low), high)
    return d
