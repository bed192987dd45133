"""Looking for the nearest neighbours of many fours, without a branch that a CPU could guess wrong.

A four is taken to the neighbour of its code (see `grid.py`) with the smallest distance, in ggml a sum of four
float32 in the order of the weights:

    ∑ w_i (scale * (2 q_i + 1) - x_i)²        iq3_find_best_neighbour

A term of it depends on i and q_i only, so the terms of all 8 integers are computed once, and a neighbour costs three
additions. Lists have lengths that no CPU predicts. So what is to be done is written down first, as *jobs* of PAD
neighbours each, and then done in one loop without branches; `do_jobs` does LANES tries of a scale at once.

    job  int32: 17 bits of a place in `neighbours`, 8 bits of a row, 1 bit that isn't set in the first job of a list
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import as_bits, as_float, place
from quantrecipe.core.grids.grid import PAD
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.scalars import F32, I32, I64, U32, ZERO, Float, Floats, Int, Ints

__all__ = [
    "AT_ONCE",
    "CODES",
    "FOUR",
    "LANES",
    "LEVELS",
    "LONGEST",
    "ROOM",
    "do_jobs",
    "do_jobs_once",
    "term",
    "write_list",
]

LARGEST = np.finfo(F32).max
LARGEST_BITS, ALL_BITS = LARGEST.view(U32), U32(0xFFFFFFFF)

FOUR, LEVELS = 4, 8
CODES = LEVELS**FOUR
"""Where whole lists come after short ones; see `load_grid`."""
ROOM = 32
"""Places for tries in a row of terms."""
LANES = 8
"""Tries of a job."""
AT_ONCE = 4
"""Jobs that are written down without asking whether a list is that long."""
LONGEST = 16
"""Jobs for one list, at the most."""
LIST_BITS, ROW_BITS = 17, 8
LIST_MASK, ROW_MASK = I32((1 << LIST_BITS) - 1), I32((1 << ROW_BITS) - 1)


@kernel
def term(scale: Float, value: Float, x: Float, w: Float) -> Float:
    """w * (scale * value - x)². ggml takes no neighbour at infinity or NaN; neither may be in another one's way."""
    d = scale * value - x
    far = w * d * d
    return far if far < LARGEST else LARGEST


@kernel
def write_list(first: Ints, code: Int, row: Int, count: Int, jobs: Ints) -> Int:
    """Write down the jobs of a code's list from jobs[count] on → how many there are."""
    begin, parts = first[code], (first[code + 1] - first[code]) // PAD
    count, base = place(count), I32(I32(row << LIST_BITS) | begin)
    for p in range(AT_ONCE):
        jobs[count + p] = I32(base + I32(p * PAD)) | I32((1 if p > 0 else 0) << (LIST_BITS + ROW_BITS))
    for p in range(AT_ONCE, parts):
        jobs[count + p] = I32(base + I32(p * PAD)) | I32(1 << (LIST_BITS + ROW_BITS))
    return parts


@kernel
def read_job(job: Int) -> tuple[Int, Int, Int]:
    """A place in `neighbours`, the row, and what isn't 0 after the first job of a list."""
    return I64(job & LIST_MASK), I64((job >> LIST_BITS) & ROW_MASK), job >> (LIST_BITS + ROW_BITS)


@kernel
def four_rows(neighbours: Ints, c: Int, start: Int, step: Int) -> tuple[Int, Int, Int, Int, Float]:
    """Where the terms of a neighbour's integers are, if those of its four begin at `start`, `step` apart; its code."""
    code = I64(neighbours[c])
    q0, q1, q2, q3 = code & 7, (code >> 3) & 7, (code >> 6) & 7, code >> 9
    return (
        start + q0 * step, start + (LEVELS + q1) * step, start + (2 * LEVELS + q2) * step,
        start + (3 * LEVELS + q3) * step, F32(code),
    )  # fmt: skip


@disjoint_kernel
def do_jobs(
    neighbours: Ints, jobs: Ints, count: Int, lanes: Int, terms: Floats, nearest: Floats, found: Floats
) -> None:
    """found[row:] = the code of the nearest neighbour, for LANES tries; what a later job says of a try holds.

    row is four * ROOM + try; terms has LEVELS rows of ROOM tries for each weight; nearest is room for 2 * LANES floats.
    `lanes` is LANES: as a constant, its loop would be unrolled before it could be vectorised.
    """
    lanes &= LANES
    for n in range(count):
        c, row, again = read_job(jobs[n])
        start = (row // ROOM) * (FOUR * LEVELS * ROOM) + row % ROOM
        a0, a1, a2, a3, code_a = four_rows(neighbours, c, start, ROOM)
        b0, b1, b2, b3, code_b = four_rows(neighbours, c + 1, start, ROOM)
        c0, c1, c2, c3, code_c = four_rows(neighbours, c + 2, start, ROOM)
        d0, d1, d2, d3, code_d = four_rows(neighbours, c + 3, start, ROOM)
        # A new run begins at the largest distance, with the first neighbour: by masks, so that it takes no branch.
        keep = ALL_BITS if again else U32(0)
        far = U32(0) if again else LARGEST_BITS
        new = U32(0) if again else as_bits(code_a)
        for j in range(lanes):
            a = terms[a0 + j] + terms[a1 + j] + terms[a2 + j] + terms[a3 + j]
            b = terms[b0 + j] + terms[b1 + j] + terms[b2 + j] + terms[b3 + j]
            c = terms[c0 + j] + terms[c1 + j] + terms[c2 + j] + terms[c3 + j]
            d = terms[d0 + j] + terms[d1 + j] + terms[d2 + j] + terms[d3 + j]
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
def do_jobs_once(neighbours: Ints, jobs: Ints, count: Int, terms: Floats, codes: Ints) -> None:
    """codes[row] = the code of the nearest neighbour, for one scale; terms has LEVELS floats for each weight."""
    least, code = LARGEST, ZERO
    for n in range(count):
        c, row, again = read_job(jobs[n])
        start = row * (FOUR * LEVELS)
        a0, a1, a2, a3, code_a = four_rows(neighbours, c, start, 1)
        b0, b1, b2, b3, code_b = four_rows(neighbours, c + 1, start, 1)
        c0, c1, c2, c3, code_c = four_rows(neighbours, c + 2, start, 1)
        d0, d1, d2, d3, code_d = four_rows(neighbours, c + 3, start, 1)
        least, code = (least, code) if again else (LARGEST, code_a)
        a = terms[a0] + terms[a1] + terms[a2] + terms[a3]
        b = terms[b0] + terms[b1] + terms[b2] + terms[b3]
        low, which = b if b < a else a, code_b if b < a else code_a
        a = terms[c0] + terms[c1] + terms[c2] + terms[c3]
        b = terms[d0] + terms[d1] + terms[d2] + terms[d3]
        high, other = b if b < a else a, code_d if b < a else code_c
        which = other if high < low else which
        low = high if high < low else low
        code = which if low < least else code
        least = low if low < least else least
        codes[row] = I32(code)
