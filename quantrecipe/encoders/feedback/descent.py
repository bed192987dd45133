"""Coordinate descent: single weights take other values of their grid while that lowers R H Rᵀ (see `factor.py`).

Feedback never looks back: column j was rounded before anybody knew how later columns would come out. Here each weight
in turn takes the value that is best with all others as they are now. The slopes P = R H say which: the best change of
weight c, were there no grid, is P_c / H_cc, and a change t takes t H_c from the row's slopes.

Few weights change, so what a change does beyond its block is added up for four changes at a time, and nothing else is
computed. Rows are apart from each other here, and lie in memory as rows.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import place, trips
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest, select
from quantrecipe.core.scalars import F32, I32, ZERO, Bytes, Float, Floats, Int, Ints, Tables
from quantrecipe.encoders.feedback.products import add_across, fma
from quantrecipe.encoders.feedback.rounding import choose

__all__ = ["BLOCK", "descend", "new_changes", "note", "slopes", "stand", "take_all"]

BLOCK = 256
"""Columns whose changes go to the other columns together."""
CHUNK = 32
"""Columns of which the next one to change is found in one go. 16 would do, but 32 become vectors."""
STRETCH = 1024
"""Columns that receive changes together: a megabyte of H for each block."""


@kernel("void(float32[::1], float32[:,::1], float32[:,::1])")
def slopes(unit: Floats, f: Floats, p: Floats) -> None:
    """P = R H, from what columns missed their targets by: p (k, n) = N f, where f = D times that. p is zero before."""
    add_across(unit, 0, f, p)


@disjoint_kernel
def _take_one(change: Float, h: Floats, p: Floats) -> None:
    for c in range(p.size):
        p[c] = fma(change, h[c], p[c])


@disjoint_kernel
def _take_four(
    a: Float, b: Float, c: Float, d: Float, ha: Floats, hb: Floats, hc: Floats, hd: Floats, p: Floats
) -> None:
    for i in range(p.size):
        p[i] = fma(d, hd[i], fma(c, hc[i], fma(b, hb[i], fma(a, ha[i], p[i]))))


@kernel
def _take(count: Int, at: Ints, by: Floats, gram: Floats, first: Int, last: Int, p: Floats) -> None:
    """What count changes do to the slopes from first to last."""
    fours = count // 4 * 4
    for i in range(0, fours, 4):
        _take_four(
            by[i], by[i + 1], by[i + 2], by[i + 3],
            gram[at[i], first:last], gram[at[i + 1], first:last],
            gram[at[i + 2], first:last], gram[at[i + 3], first:last], p[first:last],
        )  # fmt: skip
    for i in range(fours, count):
        _take_one(by[i], gram[at[i], first:last], p[first:last])


@disjoint_kernel
def _even(
    first: Int, q: Floats, p: Floats, inverse: Floats, room: Floats, values: Floats, moved: Floats
) -> None:
    scale, offset, shift = room[0], room[1], room[2]
    lowest, last = values[0], F32(values.size - 1)
    for j in range(CHUNK):
        x = q[first + j] + p[first + j] * inverse[first + j]
        t = select(scale[j] != ZERO, (x - offset[j]) / scale[j] - shift[j], ZERO) - lowest
        t = select(t > ZERO, t, ZERO)
        choice = nearest(select(t < last, t, last))
        moved[j] = q[first + j] - (scale[j] * (choice + lowest + shift[j]) + offset[j])


@disjoint_kernel
def _uneven(
    first: Int, q: Floats, p: Floats, inverse: Floats, room: Floats, values: Floats, halfway: Floats, t: Floats,
    moved: Floats,
) -> None:  # fmt: skip
    scale, offset, shift = room[0], room[1], room[2]
    lanes = trips(CHUNK, moved)
    for j in range(lanes):
        x = q[first + j] + p[first + j] * inverse[first + j]
        t[j] = select(scale[j] != ZERO, (x - offset[j]) / scale[j] - shift[j], ZERO)
        moved[j] = values[0]
    for i in range(halfway.size):
        bound, above = halfway[i], values[i + 1]
        for j in range(lanes):
            moved[j] = select(t[j] > bound, above, moved[j])
    for j in range(lanes):
        moved[j] = q[first + j] - (scale[j] * (moved[j] + shift[j]) + offset[j])


@kernel
def _load(first: Int, group: Int, scales: Floats, offsets: Floats, shifts: Floats, room: Floats) -> None:
    """Scale, offset and shift of each column of a chunk."""
    begin = 0
    while begin < CHUNK:
        g = (first + begin) // group
        end = min((g + 1) * group - first, CHUNK)
        for j in range(begin, end):
            room[0, j], room[1, j], room[2, j] = scales[g], offsets[g], shifts[g]
        begin = end


@kernel
def _next(moved: Floats, first: Int) -> Int:
    """The first from `first` on that moves; CHUNK if none does."""
    found, lanes = I32(CHUNK), trips(CHUNK, moved)
    for j in range(lanes):
        here = select((moved[j] != ZERO) & (I32(j) >= I32(first)), I32(j), I32(CHUNK))
        found = min(found, here)
    return found


@kernel
def new_changes(rows: Int) -> Tables:
    """Room for the changes of a block's columns: (columns, by how much; (rows, BLOCK)), and how many (rows,)."""
    return np.empty((rows, BLOCK), np.int64), np.empty((rows, BLOCK), np.float32), np.zeros(rows, np.int64)


@kernel
def note(
    changes: Tables, gram: Floats, column: Int, change: Float, first: Int, last: Int, r: Int, p: Floats
) -> None:
    """A weight of row r became smaller by `change`: the slopes of its block follow at once, all others later."""
    at, by, counts = changes
    _take_one(change, gram[column, first:last], p[r, first:last])
    at[r, counts[r]], by[r, counts[r]] = column, change
    counts[r] += 1


@kernel
def take_all(changes: Tables, gram: Floats, first: Int, last: Int, p: Floats) -> None:
    """What the changes of the block from first to last do to all slopes before it, and behind it."""
    (rows, k), (at, by, counts) = p.shape, changes
    for start in range(0, k, STRETCH):
        end = min(start + STRETCH, k)
        for r in range(rows):
            if start < min(end, first):
                _take(counts[r], at[r], by[r], gram, start, min(end, first), p[r])
            if max(start, last) < end:
                _take(counts[r], at[r], by[r], gram, max(start, last), end, p[r])


@kernel(
    "int64(float32[:,::1], float32[::1], int64, float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "float32[:,::1], float32[::1], float32[::1], int64, uint8[:,::1])"
)
def descend(
    gram: Floats, inverse: Floats, group: Int, p: Floats, q: Floats, scales: Floats, offsets: Floats,
    shifts: Floats, values: Floats, halfway: Floats, even: Int, choices: Bytes,
) -> Int:  # fmt: skip
    """One round over all columns of each row; how many weights changed.

    gram:    H (k, k); inverse: 1 / its diagonal
    p, q:    slopes, and what weights are now, float32 (n, k)
    scales, offsets, shifts: float32 (n, k / group)
    choices: uint8 (n, k), numbers of `values`, which ascend (see `choose`)
    """
    rows, k = q.shape
    changes, changed = new_changes(rows), 0
    moved, t, room = (
        np.empty(CHUNK, np.float32),
        np.empty(CHUNK, np.float32),
        np.empty((3, CHUNK), np.float32),
    )
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        for r in range(rows):
            c, loaded = first, -1
            changes[2][r] = 0
            while c < last:
                if k % CHUNK == 0:
                    # Few weights move. So a chunk is looked at as if none did, up to the first that does.
                    chunk = place(c // CHUNK * CHUNK)
                    if loaded != chunk:
                        _load(chunk, group, scales[r], offsets[r], shifts[r], room)
                        loaded = chunk
                    if even:
                        _even(chunk, q[r], p[r], inverse, room, values, moved)
                    else:
                        _uneven(chunk, q[r], p[r], inverse, room, values, halfway, t, moved)
                    c = chunk + _next(moved, c - chunk)
                    if c == chunk + CHUNK:
                        continue
                g = c // group
                scale, offset, shift = scales[r, g], offsets[r, g], shifts[r, g]
                choice = choose(q[r, c] + p[r, c] * inverse[c], scale, offset, shift, values, halfway, even)
                value = scale * (values[choice] + shift) + offset
                change = q[r, c] - value
                if change != ZERO:
                    q[r, c], choices[r, c] = value, choice
                    note(changes, gram, c, change, first, last, r, p)
                c += 1
            changed += changes[2][r]
        take_all(changes, gram, first, last, p)
    return changed


@kernel(
    "void(uint8[:,::1], int64, float32[:,::1], float32[:,::1], float32[:,::1], float32[::1], float32[:,::1])"
)
def stand(
    choices: Bytes, group: Int, scales: Floats, offsets: Floats, shifts: Floats, values: Floats, q: Floats
) -> None:
    """q (n, k): what weights are by their choices."""
    for r in range(q.shape[0]):
        for g in range(scales.shape[1]):
            scale, offset, shift = scales[r, g], offsets[r, g], shifts[r, g]
            for c in range(g * group, (g + 1) * group):
                q[r, c] = scale * (values[choices[r, c]] + shift) + offset
