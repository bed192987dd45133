"""The best scale for a group of weights, every eight of which are rounded to a point of a grid: what IQ2 formats share.

    x ≈ scale * (2 q + 1), q from 0 to 2, eight q together a point of the codebook

ggml (quantize_row_iq2_xxs_impl, …_xs_impl, …_s_impl, iq2_find_best_neighbour) tries some scales around the one that
makes the largest weight the largest value. For each it rounds, takes eights that aren't on the grid to the nearest of
their neighbours (see `codebook.py`), and fits the scale; the try that catches the largest share of the weights wins.
Nearly all of the work is the neighbours' distances (see `eights.py`).

Here the tries of one group stand side by side, one per lane. Scales next to each other mostly round to the same
integers, so each list of neighbours is walked once, for all tries.

    v      the group, float32: `size` each of X (not negative but for flipped signs), W (what a weight counts) and
           ROOT (its square root: what it counts in the choice of a neighbour)
    s      4 rows of lanes, float32: 1 / scale; scale; sums of w x q and w q q
    terms  TERMS rows of lanes, float32: the terms of distances
    best   2 rows of lanes, float32: the least sum so far; the code that it belongs to
    codes  int32, one row of lanes for each eight: its integers, 2 bits each
    off    int32, the same: 1 where rounding hit no point of the grid
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.codebook import PAD
from quantrecipe.core.eights import EIGHT, LARGEST, LEVELS, nearest_point, rows_of
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest_int

__all__ = ["eights_refit", "eights_search"]

F32 = np.float32
I32 = np.int32
ZERO, ONE, HALF = F32(0), F32(1), F32(0.5)

NONE, LAST, MASK = I32(0), I32(LEVELS - 1), I32(3)
TOP = F32(2 * LEVELS - 1)


@kernel
def integer(inverse: Any, x: Any) -> Any:
    """The q, 0 to 2, for which 2 q + 1 is nearest to inverse * x, as int32."""
    q = nearest_int(HALF * (inverse * x - ONE))
    q = q if q > NONE else NONE
    return q if q < LAST else LAST


@cache
def _round(lanes: int) -> Callable[..., None]:
    @disjoint_kernel
    def round_tries(v: Any, at: Any, s: Any, codes: Any, row: Any) -> None:
        at, row = place(at), place(row)
        for j in range(lanes):
            code = NONE
            for i in range(EIGHT):
                code = I32(code | I32(integer(s[j], v[at + i]) << I32(2 * i)))
            codes[row + j] = code

    return round_tries


@cache
def _fill_terms(size: int, lanes: int) -> Callable[..., None]:
    @disjoint_kernel
    def fill_terms(v: Any, at: Any, s: Any, terms: Any) -> None:
        at = place(at)
        for i in range(EIGHT):
            x, w = v[at + i], v[2 * size + at + i]
            for q in range(LEVELS):
                value = F32(2 * q + 1)
                for j in range(lanes):
                    d = s[lanes + j] * value - x
                    terms[(i * LEVELS + q) * lanes + j] = w * d * d

    return fill_terms


@cache
def _walk(lanes: int) -> Callable[..., None]:
    @disjoint_kernel
    def walk(terms: Any, begin: Any, end: Any, neighbours: Any, codes: Any, places: Any, best: Any) -> None:
        """The nearest of neighbours[begin:end] for each try."""
        for j in range(lanes):
            best[j] = LARGEST
            best[lanes + j] = F32(codes[neighbours[begin]])
        for at in range(begin, end, PAD):
            a, b, c, d = neighbours[at], neighbours[at + 1], neighbours[at + 2], neighbours[at + 3]
            code_a, code_b, code_c, code_d = F32(codes[a]), F32(codes[b]), F32(codes[c]), F32(codes[d])
            a0, a1, a2, a3, a4, a5, a6, a7 = rows_of(places, a)
            b0, b1, b2, b3, b4, b5, b6, b7 = rows_of(places, b)
            c0, c1, c2, c3, c4, c5, c6, c7 = rows_of(places, c)
            d0, d1, d2, d3, d4, d5, d6, d7 = rows_of(places, d)
            for j in range(lanes):
                sum_a = terms[a0 + j] + terms[a1 + j] + terms[a2 + j] + terms[a3 + j]
                sum_b = terms[b0 + j] + terms[b1 + j] + terms[b2 + j] + terms[b3 + j]
                sum_c = terms[c0 + j] + terms[c1 + j] + terms[c2 + j] + terms[c3 + j]
                sum_d = terms[d0 + j] + terms[d1 + j] + terms[d2 + j] + terms[d3 + j]
                sum_a = sum_a + terms[a4 + j] + terms[a5 + j] + terms[a6 + j] + terms[a7 + j]
                sum_b = sum_b + terms[b4 + j] + terms[b5 + j] + terms[b6 + j] + terms[b7 + j]
                sum_c = sum_c + terms[c4 + j] + terms[c5 + j] + terms[c6 + j] + terms[c7 + j]
                sum_d = sum_d + terms[d4 + j] + terms[d5 + j] + terms[d6 + j] + terms[d7 + j]
                least, code = best[j], best[lanes + j]
                code = code_a if sum_a < least else code
                least = sum_a if sum_a < least else least
                code = code_b if sum_b < least else code
                least = sum_b if sum_b < least else least
                code = code_c if sum_c < least else code
                least = sum_c if sum_c < least else least
                code = code_d if sum_d < least else code
                least = sum_d if sum_d < least else least
                best[j] = least
                best[lanes + j] = code

    return walk


@cache
def _sum_up(size: int, lanes: int) -> Callable[..., None]:
    @disjoint_kernel
    def sum_up(v: Any, codes: Any, s: Any) -> None:
        for j in range(2 * lanes):
            s[2 * lanes + j] = ZERO
        for k in range(size // EIGHT):
            for j in range(lanes):
                code = codes[k * lanes + j]
                sxl, sl2 = s[2 * lanes + j], s[3 * lanes + j]
                for i in range(EIGHT):
                    q = F32(I32(I32(I32(code >> I32(2 * i)) & MASK) * I32(2)) + I32(1))
                    x, w = v[k * EIGHT + i], v[size + k * EIGHT + i]
                    sxl += w * x * q
                    sl2 += w * q * q
                s[2 * lanes + j], s[3 * lanes + j] = sxl, sl2

    return sum_up


@cache
def eights_search(size: int, *, lanes: int, steps: int) -> Callable[..., Any]:
    """The kernel search(v, largest, s, terms, best, codes, off, book) → (try, scale), of 2 steps + 1 tries.

    The try in the middle makes `largest` the largest value, 5; from one try to the next it grows by 0.1. Where none
    caught anything, the try is -1 and the scale 0.
    """
    round_tries, fill_terms = _round(lanes), _fill_terms(size, lanes)
    walk, sum_up = _walk(lanes), _sum_up(size, lanes)
    step = F32(0.1)
    tries = 2 * steps + 1
    assert tries <= lanes

    @kernel
    def search(v: Any, largest: Any, s: Any, terms: Any, best: Any, codes: Any, off: Any, book: Any) -> Any:
        _, first, neighbours, points, places = book
        for j in range(lanes):
            # Lanes that aren't needed repeat the last try, and so make no codes of their own.
            s[j] = (TOP + F32(min(j, tries - 1) - steps) * step) / largest
            s[lanes + j] = ONE / s[j]
        for k in range(size // EIGHT):
            round_tries(v, k * EIGHT, s, codes, k * lanes)
            ready = False
            a = 0
            while a < lanes:
                code = codes[k * lanes + a]
                b = a + 1
                while b < lanes and codes[k * lanes + b] == code:
                    b += 1
                begin, end = first[code], first[code + 1]
                for j in range(a, b):
                    off[k * lanes + j] = end > begin
                if end > begin:
                    if not ready:
                        fill_terms(v, k * EIGHT, s, terms)
                        ready = True
                    walk(terms, begin, end, neighbours, points, places, best)
                    for j in range(a, b):
                        codes[k * lanes + j] = I32(best[lanes + j])
                a = b
        sum_up(v, codes, s)
        winner, scale, caught = -1, ZERO, ZERO
        for j in range(tries):
            sxl, sl2 = s[2 * lanes + j], s[3 * lanes + j]
            if sl2 > ZERO and sxl * sxl > caught * sl2:
                scale = sxl / sl2
                caught = scale * sxl
                winner = j
        return winner, scale

    return search


@cache
def eights_refit(size: int, *, lanes: int) -> Callable[..., Any]:
    """The kernel refit(v, scale, terms, codes, off, book) → scale: round with a scale once more, and fit it.

    codes and off have one entry for each eight here; eights that aren't off keep their codes.
    """

    @kernel
    def refit(v: Any, scale: Any, terms: Any, codes: Any, off: Any, book: Any) -> Any:
        _, first, neighbours, points, places = book
        inverse = ONE / scale
        for k in range(size // EIGHT):
            if off[k] == 0:
                continue
            code = NONE
            for i in range(EIGHT):
                code = I32(code | I32(integer(inverse, v[k * EIGHT + i]) << I32(2 * i)))
            begin, end = first[code], first[code + 1]
            if end > begin:
                for i in range(EIGHT):
                    x, w = v[k * EIGHT + i], v[2 * size + k * EIGHT + i]
                    for q in range(LEVELS):
                        d = scale * F32(2 * q + 1) - x
                        terms[(i * LEVELS + q) * lanes] = w * d * d
                code = I32(points[nearest_point(terms, 0, begin, end, neighbours, places)])
            codes[k] = code
        sxl, sl2 = ZERO, ZERO
        for k in range(size // EIGHT):
            for i in range(EIGHT):
                value = F32(2 * ((codes[k] >> (2 * i)) & 3) + 1)
                x, w = v[k * EIGHT + i], v[size + k * EIGHT + i]
                sxl += w * x * value
                sl2 += w * value * value
        return sxl / sl2 if sl2 > ZERO else scale

    return refit
