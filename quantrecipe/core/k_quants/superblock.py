"""Super-blocks of 256 weights, whose groups have a scale and a minimum each: what Q2_K, Q4_K and Q5_K share.

Encoding has two halves. *Find*: each group's best scale and minimum, in float32, for up to LANES super-blocks.
*Finish* (in the formats): quantize the scales and minima, round the weights with them, pack.

    found  rows of LANES floats, one super-block per lane; G = 256 / n groups
      G rows each of SCALES, MINIMA (not negative: what is taken off), KEPT_ISCALES and KEPT_BASES (see
      `make_qkx2_quants.py`), SUMS (what the group's weights count together; only with importance)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.bits import trips
from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import (
    LANES,
    WT,
    X,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, ZERO, Floats, Int
from quantrecipe.core.scale_searches.make_qkx2_quants import (
    KEPT_BASE,
    KEPT_ISCALE,
    MINIMUM,
    SCALE,
    make_qkx2_quants,
)

__all__ = [
    "FOUND",
    "KEPT_BASES",
    "KEPT_ISCALES",
    "MINIMA",
    "SCALES",
    "SUMS",
    "SUPERBLOCK",
    "find_plain",
    "find_weighted",
]

SUPERBLOCK = 256
SCALES, MINIMA, KEPT_ISCALES, KEPT_BASES, SUMS = range(5)
FOUND = 5


@cache
def _keep(n: int) -> Callable[..., None]:
    groups = SUPERBLOCK // n

    @kernel
    def keep(s: Floats, fill: Int, count: Int, found: Floats) -> None:
        for j in range(count):
            i, lane = (fill + j) % groups, (fill + j) // groups
            found[(SCALES * groups + i) * LANES + lane] = s[SCALE + j]
            found[(MINIMA * groups + i) * LANES + lane] = -s[MINIMUM + j]
            found[(KEPT_ISCALES * groups + i) * LANES + lane] = s[KEPT_ISCALE + j]
            found[(KEPT_BASES * groups + i) * LANES + lane] = s[KEPT_BASE + j]

    return keep


@cache
def find_plain(
    n: int, *, nmax: int, rmin: float, rdelta: float, nstep: int, evened: bool = True, absolute: bool = False
) -> Callable[..., None]:
    """The kernel find(x, first, count, s, found) for count ≤ LANES super-blocks of flat x.

    A weight counts as much as its size, with `evened` plus the group's root mean square.
    """
    groups = SUPERBLOCK // n
    load, search, keep = load_groups(n), make_qkx2_quants(n, absolute=absolute), _keep(n)
    top, low, delta = F32(nmax), F32(rmin), F32(rdelta)
    length = F32(n)

    @kernel
    def find(x: Floats, first: Int, count: Int, s: Floats, found: Floats) -> None:
        base, lanes = np.empty(LANES, np.float32), trips(LANES, s)
        for fill in range(0, count * groups, LANES):
            filled = min(LANES, count * groups - fill)
            load(x, first * groups + fill, filled, s)
            for j in range(lanes):
                base[j] = ZERO
            if evened:
                for i in range(n):
                    for j in range(lanes):
                        base[j] += s[X + i * LANES + j] * s[X + i * LANES + j]
                for j in range(lanes):
                    base[j] = np.sqrt(base[j] / length)
            for i in range(n):
                for j in range(lanes):
                    s[WT + i * LANES + j] = base[j] + abs(s[X + i * LANES + j])
            search(s, top, low, delta, nstep)
            keep(s, fill, filled, found)

    return find


@cache
def find_weighted(
    n: int, *, nmax: int, rmin: float, rdelta: float, nstep: int, sigma: float
) -> Callable[..., None]:
    """The kernel find(x, importance, first, count, s, found) for count ≤ LANES super-blocks of flat x.

    A weight counts importance * sqrt(sigma * mean square of the super-block + its own square).
    """
    groups = SUPERBLOCK // n
    load, search, keep = load_groups(n), make_qkx2_quants(n), _keep(n)
    load_weights, weigh = load_importance(n), weigh_by_size(n)
    top, low, delta, factor = F32(nmax), F32(rmin), F32(rdelta), F32(sigma)
    length = F32(SUPERBLOCK)

    @kernel
    def find(x: Floats, importance: Floats, first: Int, count: Int, s: Floats, found: Floats) -> None:
        squares, lanes = np.empty(LANES, np.float32), trips(LANES, s)
        even = np.empty(LANES, np.float32)
        sums_of_squares(x, first, count, SUPERBLOCK, squares)
        for fill in range(0, count * groups, LANES):
            filled = min(LANES, count * groups - fill)
            load(x, first * groups + fill, filled, s)
            load_weights(importance, first * groups + fill, filled, s)
            for j in range(lanes):
                even[j] = factor * squares[(fill + min(j, filled - 1)) // groups] / length
            weigh(even, s)
            for j in range(lanes):
                even[j] = ZERO
            for i in range(n):
                for j in range(lanes):
                    even[j] += s[WT + i * LANES + j]
            for j in range(filled):
                i, lane = (fill + j) % groups, (fill + j) // groups
                found[(SUMS * groups + i) * LANES + lane] = even[j]
            search(s, top, low, delta, nstep)
            keep(s, fill, filled, found)

    return find
