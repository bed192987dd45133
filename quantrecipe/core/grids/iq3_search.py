"""The best scale for 32 weights of which every four are rounded to a point of a grid; see `points_of_four.py`.

ggml: quantize_row_iq3_xxs_impl, quantize_row_iq3_s_impl. For each of a few dozen scales ggml rounds the weights, and
where four integers are not a point, takes the neighbour with the smallest weighted distance.

Here the tries lie side by side, one per lane, and each does what ggml does, in its order. From one try to the next most
fours keep their integers: such a *run* of tries looks through one list of neighbours, for up to LANES tries at once.
It is the short list, without the neighbours that can't win (see `load_grid`), unless a weight is so near to where its
integer changes that float32 could tell otherwise.

The arrays that a search works in (`fours_room`):

    v       float32, 32 each of X (sizes, and some with a minus), W (what a weight counts), ROOT (its square root)
    s       float32, a row of ROOM tries each: 1 / scale; scale; the sums w x q and w q q of the fit
    terms, nearest, found, jobs      see `iq3_neighbours.py`; found: a row of tries for each four, the code of its point
    rounded int32, the same: its code as rounded, CODES added where it needs its whole list
    codes   int32, FOURS each: the codes of the best try; 1 where that try had to look for a neighbour
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import as_bits, place
from quantrecipe.core.grids.iq3_neighbours import (
    AT_ONCE,
    CODES,
    FOUR,
    LANES,
    LEVELS,
    LONGEST,
    ROOM,
    do_jobs,
    do_jobs_once,
    term,
    write_list,
)
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest_int
from quantrecipe.core.scalars import F32, HALF, I32, I64, ONE, U32, ZERO, Float, Floats, Int, Ints, Tables

__all__ = ["FOURS", "GROUP", "fours_room", "fours_search"]

GROUP, FOURS, EIGHT = 32, 8, 8
W, ROOT = GROUP, 2 * GROUP
TOP = F32(2 * LEVELS - 1)
STEP = F32(0.2)
SURE = F32(0.5 - 2**-16)
"""In steps. Errors of float32 come to less than 2^-18."""
SMALL, GREAT = F32(2.0**-100), F32(2.0**100)
"""Scales between which no float32 operation is less exact than 24 bits."""
NONE, LAST = I32(0), I32(LEVELS - 1)
JOBS = FOURS * (ROOM + ROOM // LANES) * LONGEST + AT_ONCE


@kernel
def fours_room() -> Tables:
    """(v, s, terms, nearest, found, rounded, codes, jobs), see above."""
    return (
        np.empty(3 * GROUP, np.float32),
        np.empty(4 * ROOM, np.float32),
        np.ones(
            GROUP * LEVELS * ROOM + LANES, np.float32
        ),  # what no try fills is read, and may not be slow to add
        np.empty(2 * LANES, np.float32),
        np.empty(FOURS * ROOM + LANES, np.float32),
        np.empty(FOURS * ROOM, np.int32),
        np.empty(2 * FOURS, np.int32),
        np.empty(JOBS, np.int32),
    )


@kernel
def odd(code: Int, i: Int) -> Float:
    """2 q + 1 of the i-th integer of a code, as float32."""
    return F32(I32(I32(I32(code >> I32(3 * i)) & LAST) * I32(2) + I32(1)))


@kernel
def integer(inverse: Float, x: Float) -> tuple[Int, Float]:
    """The q, 0 to 7, for which 2 q + 1 is nearest to inverse * x, as int32; how far x is from it, in steps."""
    h = HALF * (inverse * x - ONE)
    q = nearest_int(h)
    q = q if q > NONE else NONE
    q = q if q < LAST else LAST
    # What is beyond the lowest or the highest integer is rounded to it as surely as what is there.
    h = h if h > ZERO else ZERO
    h = h if h < F32(LAST) else F32(LAST)
    return q, abs(h - F32(q))


@kernel
def farther(a: Float, b: Float) -> Float:
    """The larger one."""
    return a if a > b else b


@kernel
def sure_to(scale: Float) -> Float:
    """How far from its integer a weight may be, for a short list to be enough."""
    return SURE if SMALL < scale < GREAT else -ONE


@kernel
def lowest_bit(bits: Int) -> Int:
    """The place of the lowest set bit of a uint32 that isn't 0: the exponent of that bit as a float32."""
    return I64(as_bits(F32(U32(bits & U32(-I64(bits))))) >> U32(23)) - 127


@cache
def _round(tries: int) -> Callable[..., None]:
    @disjoint_kernel
    def round_tries(v: Floats, s: Floats, rounded: Ints) -> None:
        """The code of each four in each try, CODES added where it needs its whole list."""
        sure = sure_to(s[ROOM])
        for k in range(FOURS):
            x0, x1, x2, x3 = v[FOUR * k], v[FOUR * k + 1], v[FOUR * k + 2], v[FOUR * k + 3]
            for t in range(tries):
                (q0, d0), (q1, d1) = integer(s[t], x0), integer(s[t], x1)
                (q2, d2), (q3, d3) = integer(s[t], x2), integer(s[t], x3)
                code = I32(q0 | I32(q1 << I32(3))) | I32(I32(q2 << I32(6)) | I32(q3 << I32(9)))
                far = farther(farther(d0, d1), farther(d2, d3))
                rounded[k * ROOM + t] = code if far < sure else I32(code | I32(CODES))

    return round_tries


@cache
def _fill(tries: int) -> Callable[..., None]:
    @disjoint_kernel
    def fill_terms(v: Floats, s: Floats, terms: Floats) -> None:
        """What each weight adds to a distance, for each integer and each try."""
        for i in range(GROUP):
            x, w = v[i], v[ROOT + i]
            for t in range(tries):
                scale = s[ROOM + t]
                for q in range(LEVELS):
                    terms[(LEVELS * i + q) * ROOM + t] = term(scale, F32(2 * q + 1), x, w)

    return fill_terms


@cache
def _sum(tries: int) -> Callable[..., None]:
    @disjoint_kernel
    def sum_up(v: Floats, found: Floats, s: Floats) -> None:
        """w x q and w q q of each try."""
        for t in range(2 * ROOM):
            s[2 * ROOM + t] = ZERO
        for k in range(FOURS):
            for t in range(tries):
                code = I32(found[k * ROOM + t])
                sxl, sl2 = s[2 * ROOM + t], s[3 * ROOM + t]
                for i in range(FOUR):
                    x, w, q = v[FOUR * k + i], v[W + FOUR * k + i], odd(code, i)
                    sxl += w * x * q
                    sl2 += w * q * q
                s[2 * ROOM + t], s[3 * ROOM + t] = sxl, sl2

    return sum_up


@cache
def fours_search(steps: int, *, keep_points: bool) -> Callable[..., Any]:
    """The kernel search(book, largest, room) → scale, for the group in v, whose largest X is given.

    There are `steps` scales on each side of largest / 15. The best one's codes are rounded once more with the scale
    that fits them best, and that scale fitted again; with `keep_points`, fours that were points as rounded stay.
    """
    total = 2 * steps + 1
    tries = -(-total // EIGHT) * EIGHT
    round_tries, fill_terms, sum_up = _round(tries), _fill(tries), _sum(tries)

    @kernel
    def run_ends(four: Int, rounded: Ints) -> Int:
        """Bit t is set where the code of try t isn't that of the try before, and where t = total."""
        at = place(four * ROOM)
        bits = U32(1 << total)
        for t in range(1, total):
            bits |= U32(U32(1 if rounded[at + t] != rounded[at + t - 1] else 0) << U32(t))
        return bits

    @disjoint_kernel
    def write_jobs(first: Ints, rounded: Ints, jobs: Ints) -> Int:
        count = 0
        for k in range(FOURS):
            ends = run_ends(k, rounded)
            start = 0
            while ends != U32(0):
                end = lowest_bit(ends)
                ends &= U32(ends - U32(1))
                code = rounded[place(k * ROOM + start)]
                for t in range(start, end, LANES):
                    count += write_list(first, code, k * ROOM + t, count, jobs)
                start = end
        return count

    @kernel
    def choose(index: Ints, largest: Float, s: Floats, found: Floats, rounded: Ints, codes: Ints) -> Float:
        """The scale of the best try; its codes and whether they were points go to `codes`."""
        winner, scale, caught = -1, largest / TOP, ZERO
        for t in range(total):
            sxl, sl2 = s[2 * ROOM + t], s[3 * ROOM + t]
            if sl2 > ZERO and sxl * sxl > caught * sl2:
                scale = sxl / sl2
                caught = scale * sxl
                winner = t
        for k in range(FOURS):
            if winner >= 0:
                codes[k] = I32(found[place(k * ROOM + winner)])
                codes[FOURS + k] = index[rounded[place(k * ROOM + winner)] & (CODES - 1)] < 0
            else:
                codes[k] = I32(0)
                codes[FOURS + k] = not keep_points
        return scale

    @disjoint_kernel
    def refit(
        first: Ints,
        neighbours: Ints,
        scale: Float,
        v: Floats,
        codes: Ints,
        jobs: Ints,
        terms: Floats,
        integers: Ints,
    ) -> Float:
        inverse, sure = ONE / scale, sure_to(scale)
        for i in range(GROUP):
            for q in range(LEVELS):
                terms[LEVELS * i + q] = term(scale, F32(2 * q + 1), v[i], v[ROOT + i])
        for i in range(GROUP):
            q, away = integer(inverse, v[i])
            integers[i] = q
            integers[GROUP + i] = I32(0) if away < sure else I32(CODES)
        count = 0
        for k in range(FOURS):
            if codes[FOURS + k] or not keep_points:
                code, at = I32(0), FOUR * k
                for i in range(FOUR):
                    code |= I32(integers[at + i] << I32(3 * i)) | integers[GROUP + at + i]
                count += write_list(first, place(code), k, count, jobs)
        do_jobs_once(neighbours, jobs, count, terms, codes)
        sxl, sl2 = ZERO, ZERO
        for k in range(FOURS):
            for i in range(FOUR):
                x, w, q = v[FOUR * k + i], v[W + FOUR * k + i], odd(codes[k], i)
                sxl += w * x * q
                sl2 += w * q * q
        return sxl / sl2 if sl2 > ZERO else scale

    @kernel
    def search(book: Tables, largest: Float, room: Tables) -> Float:
        index, first, neighbours = book
        v, s, terms, nearest, found, rounded, codes, jobs = room
        for t in range(ROOM):
            s[t] = (TOP + F32(t - steps) * STEP) / largest
            s[ROOM + t] = ONE / s[t]
        round_tries(v, s, rounded)
        fill_terms(v, s, terms)
        do_jobs(neighbours, jobs, write_jobs(first, rounded, jobs), LANES, terms, nearest, found)
        sum_up(v, found, s)
        scale = choose(index, largest, s, found, rounded, codes)
        looked = 0
        for k in range(FOURS):
            looked += codes[FOURS + k]
        if looked > 0 and scale > ZERO:
            scale = refit(first, neighbours, scale, v, codes, jobs, terms, rounded)
        return scale

    return search
