"""The best scale for 32 weights of which every four are rounded to a point of a grid; see `fours.py`.

ggml: quantize_row_iq3_xxs_impl, quantize_row_iq3_s_impl, iq3_find_best_neighbour. For each of a few dozen scales ggml
rounds the weights, and where four integers are not a point, takes the neighbour with the smallest weighted distance.

Here the tries lie side by side, one per lane, and each does what ggml does, in its order. What makes it fast:

* From one try to the next most fours keep their integers. Such a *run* of tries looks through one list of neighbours,
  so a neighbour is compared with the weights for LANES tries at once.
* A weight's share of a distance depends on its own integer only. The shares of 8 integers are computed once, for all
  tries; a neighbour's distance is the sum of four of them: the same numbers, added in the same order.
* Lists and runs have lengths that no CPU predicts. So the work is written down first, as *jobs* of PAD neighbours and
  LANES tries, and then done in one loop without branches.

The arrays that a search works in (`fours_room`):

    v       float32, 32 each of X (sizes, and some with a minus), W (what a weight counts), ROOT (its square root)
    s       float32, a row of ROOM tries each: 1 / scale; scale; the sums w x q and w q q of the fit
    shares  float32, for each weight and each of its 8 integers a row of tries, and LANES to spare
    nearest float32, LANES each: the least distance so far; the code that it belongs to
    found   float32, for each four a row of tries, and LANES to spare: the code of its point
    rounded int32, the same: its code as rounded
    codes   int32, FOURS each: the codes of the best try; 1 where that try had to look for a neighbour
    jobs    int32 (…, 3): a place in `neighbours`; four * ROOM + try; 0 in the first job of a run
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import as_bits, as_float, place
from quantrecipe.core.codebook import PAD
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest_int

__all__ = ["FOURS", "GROUP", "fours_room", "fours_search"]

F32 = np.float32
I32 = np.int32
I64 = np.int64
U32 = np.uint32
ZERO, ONE, HALF = F32(0), F32(1), F32(0.5)
LARGEST = np.finfo(F32).max
LARGEST_BITS, ALL_BITS = LARGEST.view(U32), U32(0xFFFFFFFF)

GROUP, FOUR, FOURS, LEVELS = 32, 4, 8, 8
W, ROOT = GROUP, 2 * GROUP
TOP = F32(2 * LEVELS - 1)
STEP = F32(0.2)
LAST = I32(LEVELS - 1)

ROOM = 32
"""Places for tries in a row; IQ3_XXS has 31."""
LANES = 16
"""Tries of a job."""
AT_ONCE = 4
"""Jobs that are written down without asking whether a list is that long."""
LONGEST = 16
"""Jobs for one list, at the most: lists have no more than 40 neighbours."""
JOBS = 1 + FOURS * (ROOM + ROOM // LANES) * LONGEST


@kernel
def fours_room() -> Any:
    """(v, s, shares, nearest, found, rounded, codes, jobs), see above."""
    return (
        np.zeros(3 * GROUP, np.float32),
        np.zeros(4 * ROOM, np.float32),
        np.zeros(GROUP * LEVELS * ROOM + LANES, np.float32),
        np.zeros(2 * LANES, np.float32),
        np.zeros(FOURS * ROOM + LANES, np.float32),
        np.zeros(FOURS * ROOM, np.int32),
        np.zeros(2 * FOURS, np.int32),
        np.zeros((JOBS, 3), np.int32),
    )


@kernel
def odd(code: Any, i: Any) -> Any:
    """2 q + 1 of the i-th integer of a code, as float32."""
    return F32(I32(I32(I32(code >> I32(3 * i)) & LAST) * I32(2) + I32(1)))


@kernel
def integer(inverse: Any, x: Any) -> Any:
    """The q, 0 to 7, for which 2 q + 1 is nearest to inverse * x, as int32."""
    return min(max(nearest_int(HALF * (inverse * x - ONE)), I32(0)), LAST)


@kernel
def lowest_bit(bits: Any) -> Any:
    """The place of the lowest set bit of a uint32 that isn't 0: the exponent of that bit as a float32."""
    return I64(as_bits(F32(U32(bits & U32(-I64(bits))))) >> U32(23)) - 127


@disjoint_kernel
def round_tries(v: Any, s: Any, rounded: Any) -> None:
    """The code of each four in each try."""
    for k in range(FOURS):
        x0, x1, x2, x3 = v[FOUR * k], v[FOUR * k + 1], v[FOUR * k + 2], v[FOUR * k + 3]
        for t in range(ROOM):
            low = integer(s[t], x0) | I32(integer(s[t], x1) << I32(3))
            high = integer(s[t], x2) | I32(integer(s[t], x3) << I32(3))
            rounded[k * ROOM + t] = low | I32(high << I32(6))


@disjoint_kernel
def fill_shares(v: Any, s: Any, shares: Any) -> None:
    """What each weight adds to a distance, for each integer and each try."""
    for i in range(GROUP):
        x, w = v[i], v[ROOT + i]
        for t in range(ROOM):
            scale = s[ROOM + t]
            for q in range(LEVELS):
                d = scale * F32(2 * q + 1) - x
                far = w * d * d
                # ggml takes no neighbour at an infinite distance or at NaN; neither may be in another one's way.
                shares[(LEVELS * i + q) * ROOM + t] = far if far < LARGEST else LARGEST


@kernel
def share(code: Any, i: Any, start: Any) -> Any:
    """Where the shares of the i-th integer of a code are, if those of its four begin at `start`."""
    return start + (LEVELS * i + ((code >> (3 * i)) & 7)) * ROOM


@disjoint_kernel
def do_jobs(neighbours: Any, jobs: Any, count: Any, shares: Any, nearest: Any, found: Any) -> None:
    lanes = jobs[0, 0] & LANES  # LANES; a constant would be unrolled before it could be vectorised
    for n in range(1, count):
        c, row, again = place(jobs[n, 0]), place(jobs[n, 1]), jobs[n, 2]
        start = (row >> 5) * (FOUR * LEVELS * ROOM) + (row & 31)
        na, nb, nc, nd = neighbours[c], neighbours[c + 1], neighbours[c + 2], neighbours[c + 3]
        a0, a1, a2, a3 = share(na, 0, start), share(na, 1, start), share(na, 2, start), share(na, 3, start)
        b0, b1, b2, b3 = share(nb, 0, start), share(nb, 1, start), share(nb, 2, start), share(nb, 3, start)
        c0, c1, c2, c3 = share(nc, 0, start), share(nc, 1, start), share(nc, 2, start), share(nc, 3, start)
        d0, d1, d2, d3 = share(nd, 0, start), share(nd, 1, start), share(nd, 2, start), share(nd, 3, start)
        code_a, code_b, code_c, code_d = F32(na), F32(nb), F32(nc), F32(nd)
        # A new run begins at the largest distance, with the first neighbour: by masks, so that it takes no branch.
        keep = ALL_BITS if again else U32(0)
        far = U32(0) if again else LARGEST_BITS
        new = U32(0) if again else as_bits(code_a)
        for j in range(lanes):
            a = shares[a0 + j] + shares[a1 + j] + shares[a2 + j] + shares[a3 + j]
            b = shares[b0 + j] + shares[b1 + j] + shares[b2 + j] + shares[b3 + j]
            c = shares[c0 + j] + shares[c1 + j] + shares[c2 + j] + shares[c3 + j]
            d = shares[d0 + j] + shares[d1 + j] + shares[d2 + j] + shares[d3 + j]
            low, one = b if b < a else a, code_b if b < a else code_a
            high, two = d if d < c else c, code_d if d < c else code_c
            one = two if high < low else one
            low = high if high < low else low
            least = as_float(U32(as_bits(nearest[j]) & keep) | far)
            code = as_float(U32(as_bits(nearest[LANES + j]) & keep) | new)
            code = one if low < least else code
            nearest[j] = low if low < least else least
            nearest[LANES + j] = code
            found[row + j] = code


@disjoint_kernel
def sum_up(v: Any, found: Any, s: Any) -> None:
    """w x q and w q q of each try."""
    for t in range(2 * ROOM):
        s[2 * ROOM + t] = ZERO
    for k in range(FOURS):
        for t in range(ROOM):
            code = I32(found[k * ROOM + t])
            sxl, sl2 = s[2 * ROOM + t], s[3 * ROOM + t]
            for i in range(FOUR):
                x, w, q = v[FOUR * k + i], v[W + FOUR * k + i], odd(code, i)
                sxl += w * x * q
                sl2 += w * q * q
            s[2 * ROOM + t], s[3 * ROOM + t] = sxl, sl2


@kernel
def nearest_of_list(first: Any, neighbours: Any, code: Any, four: Any, scale: Any, v: Any) -> Any:
    """The code of the neighbour of `code` that is nearest to a four of v, with one scale."""
    four = place(FOUR * four)
    nearest, least = neighbours[first[code]], LARGEST
    for c in range(place(first[code]), first[code + 1]):
        near, total = neighbours[c], ZERO
        for i in range(FOUR):
            d = scale * odd(I32(near), i) - v[four + i]
            total += v[ROOT + four + i] * d * d
        nearest = near if total < least else nearest
        least = total if total < least else least
    return I32(nearest)


@cache
def fours_search(tries: int, *, keep_points: bool) -> Callable[..., Any]:
    """The kernel search(book, largest, room) → scale, for the group in v, whose largest X is given.

    There are `tries` scales on each side of largest / 15. The best one's codes are rounded once more with the scale
    that fits them best, and that scale fitted again; with `keep_points`, fours that were points as rounded stay.
    """
    total = 2 * tries + 1

    @kernel
    def run_ends(four: Any, rounded: Any) -> Any:
        """Bit t is set where the code of try t isn't that of the try before, and where t = total."""
        at = place(four * ROOM)
        bits = U32(1 << total)
        for t in range(1, total):
            bits |= U32(U32(1 if rounded[at + t] != rounded[at + t - 1] else 0) << U32(t))
        return bits

    @disjoint_kernel
    def write_jobs(first: Any, rounded: Any, jobs: Any) -> Any:
        jobs[0, 0] = LANES
        count = 1
        for k in range(FOURS):
            ends = run_ends(k, rounded)
            start = 0
            while ends != U32(0):
                end = lowest_bit(ends)
                ends &= U32(ends - U32(1))
                code = rounded[place(k * ROOM + start)]
                begin = first[code]
                parts = (first[code + 1] - begin) // PAD
                for t in range(start, end, LANES):
                    for p in range(AT_ONCE):
                        job = jobs[count + p]
                        job[0], job[1], job[2] = begin + p * PAD, k * ROOM + t, p
                    for p in range(AT_ONCE, parts):
                        job = jobs[count + p]
                        job[0], job[1], job[2] = begin + p * PAD, k * ROOM + t, p
                    count += parts
                start = end
        return count

    @kernel
    def choose(index: Any, largest: Any, s: Any, found: Any, rounded: Any, codes: Any) -> Any:
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
                codes[FOURS + k] = index[rounded[place(k * ROOM + winner)]] < 0
            else:
                codes[k] = I32(0)
                codes[FOURS + k] = not keep_points
        return scale

    @kernel
    def refit(first: Any, neighbours: Any, scale: Any, v: Any, codes: Any) -> Any:
        inverse = ONE / scale
        for k in range(FOURS):
            if codes[FOURS + k] or not keep_points:
                code = I32(0)
                for i in range(FOUR):
                    code |= I32(integer(inverse, v[FOUR * k + i]) << I32(3 * i))
                codes[k] = nearest_of_list(first, neighbours, code, k, scale, v)
        sxl, sl2 = ZERO, ZERO
        for k in range(FOURS):
            for i in range(FOUR):
                x, w, q = v[FOUR * k + i], v[W + FOUR * k + i], odd(codes[k], i)
                sxl += w * x * q
                sl2 += w * q * q
        return sxl / sl2 if sl2 > ZERO else scale

    @kernel
    def search(book: Any, largest: Any, room: Any) -> Any:
        index, first, neighbours = book
        v, s, shares, nearest, found, rounded, codes, jobs = room
        for t in range(ROOM):
            s[t] = (TOP + F32(t - tries) * STEP) / largest
            s[ROOM + t] = ONE / s[t]
        round_tries(v, s, rounded)
        fill_shares(v, s, shares)
        do_jobs(neighbours, jobs, write_jobs(first, rounded, jobs), shares, nearest, found)
        sum_up(v, found, s)
        scale = choose(index, largest, s, found, rounded, codes)
        looked = 0
        for k in range(FOURS):
            looked += codes[FOURS + k]
        if looked > 0 and scale > ZERO:
            scale = refit(first, neighbours, scale, v, codes)
        return scale

    return search
