"""The best scale for groups of weights, every eight of which are rounded to a point of a grid: what IQ2 formats share.

    x ≈ scale * (2 q + 1), q from 0 to 2, eight q together a point of the grid

ggml (quantize_row_iq2_xxs_impl, …_xs_impl, …_s_impl, iq2_find_best_neighbour) tries some scales around the one that
makes the largest weight the largest value. For each it rounds, takes eights that aren't on the grid to the nearest of
their neighbours (see `grid.py`), and fits the scale; the try that catches the largest share of the weights wins.
Nearly all of the work is the neighbours' distances (see `points_of_eight.py`).

Of a list only the short one is walked, without the neighbours that can't win (see `load_grid`), unless some try of the
eight is so near to where its integers change that float32 could tell otherwise.

Here groups stand side by side, one per lane. But the search goes by single groups: there a group's tries stand side by
side. Scales next to each other mostly round to the same integers, so each list of neighbours is walked once, for all
tries.

    s         a group per lane: X and WT as in `lanes.py`, ROOT as in `points_of_eight.py`
    terms     TERMS rows of LANES float32
    scale     LANES float32
    chosen    int32, one row of LANES for each eight of a group: the code of its point
    doubtful  int32, the same: 1 where rounding hit no point
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import aligned, as_bits, place
from quantrecipe.core.grids.iq2_neighbours import fill_rows, walk_rows
from quantrecipe.core.grids.points_of_eight import BLOCK, EIGHT, LEVELS, ROOT, ROW, ROWS, WIDTH, nearest_code
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import LANES, WT, X, nearest_int
from quantrecipe.core.scalars import F32, HALF, I32, ONE, ZERO, Float, Floats, Int, Ints, Tables

__all__ = ["eights_refit", "eights_search"]

THREE, FIVE = F32(3), F32(5)
CODES = I32(1 << 2 * EIGHT)
"""Where whole lists come after short ones; see `load_grid`."""
SURE = F32(2.0**-16).view(I32)
"""How far a weight may be from the middle between two integers. Errors of float32 come to less than 2^-19."""
NEVER = I32(0x7FFFFFFF)
SMALL, GREAT, WILD = F32(2.0**-100), F32(2.0**100), F32(2.0**16)
"""Scales between which no float32 operation is less exact than 24 bits; and more scales than any weight should be."""
NONE, LAST, MASK = I32(0), I32(LEVELS - 1), I32(3)
TOP = F32(2 * LEVELS - 1)


@kernel
def integer(inverse: Float, x: Float) -> tuple[Int, Int]:
    """The q, 0 to 2, for which 2 q + 1 is nearest to inverse * x; the bits of how far x is from where q changes."""
    h = HALF * (inverse * x - ONE)
    q = nearest_int(h)
    q = q if q > NONE else NONE
    return (q if q < LAST else LAST), I32(as_bits(abs(abs(h - ONE) - HALF)))


@cache
def _find_limits(size: int) -> Callable[..., None]:
    """The kernel find(s, scale, factor, limits): how near to where q changes a weight of each group may be, as bits."""

    @disjoint_kernel
    def find_limits(s: Floats, scale: Floats, factor: Float, limits: Ints) -> None:
        for j in range(LANES):
            farthest, one = ZERO, scale[j] * factor
            for i in range(size):
                x = abs(s[X + i * LANES + j])
                farthest = x if x > farthest else farthest
            sure = (one > SMALL) & (one < GREAT) & (farthest < WILD * one)
            limits[j] = SURE if sure else NEVER

    return find_limits


@cache
def _round(tries: int, wanted: int) -> Callable[..., Any]:
    @disjoint_kernel
    def round_tries(
        s: Floats,
        at: Int,
        limit: Int,
        t: Floats,
        first: Ints,
        rounded: Ints,
        row: Int,
        codes: Ints,
        strangers: Ints,
    ) -> tuple[Int, Int]:
        """Round an eight with every try → how many runs of tries hit no point, and what to add for their lists.

        strangers: where these runs begin
        """
        at, row, nearest = place(at), place(row), NEVER
        for j in range(tries):
            code = NONE
            for i in range(EIGHT):
                q, miss = integer(t[j], s[X + at + i * LANES])
                code = I32(code | I32(q << I32(2 * i)))
                nearest = miss if miss < nearest else nearest
            rounded[row + j] = code
            codes[row + j] = code
        # Without branches: no processor foresees them.
        count, before = 0, I32(-1)
        for j in range(wanted):
            code = rounded[row + j]
            strangers[count] = I32(j)
            count += (code != before) & (first[code + 1] > first[code])
            before = code
        return count, CODES if nearest < limit else NONE

    return round_tries


@disjoint_kernel
def _set_scales(tops: Floats, largest: Float, t: Floats, scales: Floats) -> None:
    for j in range(tops.size):
        t[j] = tops[j] / largest
        scales[j] = ONE / t[j]


@disjoint_kernel
def _take(code: Int, rounded: Ints, at: Int, best: Floats, codes: Ints) -> None:
    """Those of WIDTH tries that were rounded to this code get the nearest of its neighbours."""
    at, width = place(at), place(best.size >> 1)
    for j in range(width):
        codes[at + j] = I32(best[width + j]) if rounded[at + j] == code else codes[at + j]


@cache
def _sum_up(size: int, tries: int) -> Callable[..., None]:
    @disjoint_kernel
    def sum_up(s: Floats, lane: Int, codes: Ints, t: Floats) -> None:
        lane = place(lane)
        for j in range(2 * tries):
            t[tries + j] = ZERO
        for k in range(size // EIGHT):
            for j in range(tries):
                code = codes[k * tries + j]
                sxl, sl2 = t[tries + j], t[2 * tries + j]
                for i in range(EIGHT):
                    q = F32(I32(I32(I32(code >> I32(2 * i)) & MASK) * I32(2)) + I32(1))
                    x, w = s[X + (k * EIGHT + i) * LANES + lane], s[WT + (k * EIGHT + i) * LANES + lane]
                    sxl += w * x * q
                    sl2 += w * q * q
                t[tries + j], t[2 * tries + j] = sxl, sl2

    return sum_up


@cache
def eights_search(size: int, *, steps: int) -> Callable[..., None]:
    """The kernel search(s, count, largest, book, scale, chosen, doubtful) for groups of `size`, `count` lanes.

    Of 2 steps + 1 tries, the one in the middle makes `largest` (LANES float32) the largest value, 5; from one to the
    next it grows by 0.1. Groups without a positive `largest`, or of which no try catches anything, stay as they are.
    """
    step = F32(0.1)
    wanted = 2 * steps + 1
    tries = -(-wanted // 8) * 8
    # Tries are compared WIDTH at a time: the first ones, or the last ones.
    last = tries - WIDTH
    round_tries, sum_up, find_limits = _round(tries, wanted), _sum_up(size, tries), _find_limits(size)

    @kernel
    def search(
        s: Floats, count: Int, largest: Floats, book: Tables, scale: Floats, chosen: Ints, doubtful: Ints
    ) -> None:
        _, first, neighbours, near, places = book
        t, scales, rows = aligned(3 * tries), aligned(tries), aligned(ROWS * ROW)
        best, tops = aligned(2 * WIDTH), aligned(tries)
        rounded, codes = np.empty(size // EIGHT * tries, np.int32), np.empty(size // EIGHT * tries, np.int32)
        strangers, limits = np.empty(tries + 1, np.int32), np.empty(LANES, np.int32)
        find_limits(s, largest, ONE / TOP, limits)
        for j in range(tries):
            # Lanes that aren't needed repeat the last try, and so make no codes of their own.
            tops[j] = TOP + F32(min(j, wanted - 1) - steps) * step
        for lane in range(count):
            if not largest[lane] > ZERO:
                continue
            _set_scales(tops, largest[lane], t, scales)
            for k in range(size // EIGHT):
                at = k * EIGHT * LANES + lane
                unknown, lists = round_tries(
                    s, at, limits[lane], t, first, rounded, k * tries, codes, strangers
                )
                if unknown > 0:
                    fill_rows(s, at, scales, rows)
                for i in range(unknown):
                    start = strangers[i]
                    code = rounded[k * tries + start]
                    begin, end = first[lists + code], first[lists + code + 1]
                    column = 0 if start < last else last
                    walk_rows(rows, column, begin, end, neighbours, near, places, best)
                    _take(code, rounded, k * tries + column, best, codes)
                    if column < last and rounded[k * tries + WIDTH] == code:
                        walk_rows(rows, column + last, begin, end, neighbours, near, places, best)
                        _take(code, rounded, k * tries + column + last, best, codes)
            sum_up(s, lane, codes, t)
            winner, caught = -1, ZERO
            for j in range(wanted):
                sxl, sl2 = t[tries + j], t[2 * tries + j]
                if sl2 > ZERO and sxl * sxl > caught * sl2:
                    scale[lane] = sxl / sl2
                    caught = scale[lane] * sxl
                    winner = j
            if winner >= 0:
                for k in range(size // EIGHT):
                    code = rounded[k * tries + winner]
                    chosen[k * LANES + lane] = codes[k * tries + winner]
                    doubtful[k * LANES + lane] = first[code + 1] > first[code]

    return search


@cache
def eights_refit(size: int) -> Callable[..., None]:
    """The kernel refit(s, count, terms, book, scale, chosen, doubtful).

    Doubtful eights of groups with a positive scale are rounded with it once more; then the scale is fitted again.
    """
    find_limits = _find_limits(size)

    @disjoint_kernel
    def round_lanes(s: Floats, k: Int, scale: Floats, limits: Ints, rounded: Ints, terms: Floats) -> None:
        """rounded: the code of each lane, CODES added where it needs its whole list."""
        at = place(k * EIGHT * LANES)
        for j in range(LANES):
            inverse, code, nearest = ONE / scale[j], NONE, NEVER
            for i in range(EIGHT):
                q, miss = integer(inverse, s[X + at + i * LANES + j])
                code = I32(code | I32(q << I32(2 * i)))
                nearest = miss if miss < nearest else nearest
            rounded[j] = I32(code + CODES) if nearest < limits[j] else code
        for i in range(EIGHT):
            for j in range(LANES):
                x, w = s[X + at + i * LANES + j], s[ROOT + at + i * LANES + j]
                d0, d1, d2 = scale[j] - x, scale[j] * THREE - x, scale[j] * FIVE - x
                terms[LEVELS * i * LANES + j] = w * d0 * d0
                terms[(LEVELS * i + 1) * LANES + j] = w * d1 * d1
                terms[(LEVELS * i + 2) * LANES + j] = w * d2 * d2

    @disjoint_kernel
    def fit(s: Floats, chosen: Ints, sums: Floats) -> None:
        for j in range(2 * LANES):
            sums[j] = ZERO
        for k in range(size // EIGHT):
            for j in range(LANES):
                code = chosen[k * LANES + j]
                sxl, sl2 = sums[j], sums[LANES + j]
                for i in range(EIGHT):
                    at = (k * EIGHT + i) * LANES + j
                    q = F32(I32(I32(I32(code >> I32(2 * i)) & MASK) * I32(2)) + I32(1))
                    sxl += s[WT + at] * s[X + at] * q
                    sl2 += s[WT + at] * q * q
                sums[j], sums[LANES + j] = sxl, sl2

    @kernel
    def refit(
        s: Floats, count: Int, terms: Floats, book: Tables, scale: Floats, chosen: Ints, doubtful: Ints
    ) -> None:
        _, first, _, near, _ = book
        rounded, sums, moved = (
            np.empty(LANES, np.int32),
            np.empty(2 * LANES, np.float32),
            np.zeros(LANES, np.int32),
        )
        limits = np.empty(LANES, np.int32)
        least, found = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
        find_limits(s, scale, ONE, limits)
        for k in range(size // EIGHT):
            round_lanes(s, k, scale, limits, rounded, terms)
            for j in range(count):
                if doubtful[k * LANES + j] and scale[j] > ZERO:
                    code = rounded[j]
                    begin, end = first[code], first[code + 1]
                    chosen[k * LANES + j] = code & (CODES - 1)
                    if end > begin:
                        chosen[k * LANES + j] = nearest_code(terms, j, begin, end, near, least, found)
                    moved[j] = 1
        fit(s, chosen, sums)
        for j in range(count):
            if moved[j] and sums[LANES + j] > ZERO:
                scale[j] = sums[j] / sums[LANES + j]

    return refit
