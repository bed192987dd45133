"""Columns rounded in order where two, four or eight weights are one point of a grid.

A unit of columns is rounded together: those of one point where points have signs of their own, else eight, which is
how signs are stored. What they should be is known as for single columns (see `rounding.py`): the best that there is
without a grid, x. Missing it by e costs e G eᵀ, where G = N D Nᵀ of these columns. `nearest.py` finds the point.

Descent does the same once more, unit by unit, with H in the place of G: x is then what would be best for the unit with
all other columns as they are. The point that is found so is taken if R H Rᵀ becomes smaller by it, as a whole.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import select
from quantrecipe.core.scalars import F32, ONE, TWO, U8, U16, ZERO, Bytes, Float, Floats, Int, Ints, Tables
from quantrecipe.encoders.feedback.descent import BLOCK, new_changes, note, take_all
from quantrecipe.encoders.feedback.nearest import CELLS_OF, find_nearest, new_room
from quantrecipe.encoders.feedback.products import add_down, fma, where

__all__ = ["descend_points", "gain", "invert", "metric", "round_points"]


@disjoint_kernel
def _add(factor: Float, x: Floats, y: Floats) -> None:
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@disjoint_kernel
def _leave(target: Floats, w: Floats, left: Floats) -> None:
    for r in range(target.size):
        left[r] = w[r] - target[r]


@disjoint_kernel
def _stand(
    i: Int, at: Int, scale: Floats, shift: Floats, points: Floats, first: Bytes, count: Int, found: Ints, signs: Bytes,
    q: Floats,
) -> None:  # fmt: skip
    """What weight i of a unit becomes, which is number `at` of its point. first: which book, of so many points"""
    for r in range(q.size):
        value = scale[r] * (points[count * first[r] + found[r], at] + shift[r])
        q[r] = select(U8(signs[r] >> U8(i)) & U8(1) != U8(0), -value, value)


@kernel
def metric(unit: Floats, variances: Floats, first: Int, g: Floats) -> None:
    """G = N D Nᵀ of the columns first, first + 1, …: as many as g (u, u) has."""
    u = g.shape[0]
    for i in range(u):
        for j in range(i, u):
            n = ONE if i == j else unit[where(first + i, first + j)]
            total = n * variances[first + j]
            for later in range(j + 1, u):
                both = unit[where(first + i, first + later)] * unit[where(first + j, first + later)]
                total = fma(both, variances[first + later], total)
            g[i, j], g[j, i] = total, total


@kernel(
    "void(float32[::1], float32[::1], int64, int64[::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "float32[:,::1], uint8[:,::1], Array(float32, 2, 'C', True), int64, "
    f"{CELLS_OF}, int64, int64, int64, uint16[:,::1], uint8[:,::1], float32[:,::1], float32[:,::1])"
)
def round_points(
    unit: Floats, variances: Floats, first: Int, groups: Ints, target: Floats, w: Floats, scales: Floats,
    shifts: Floats, books: Bytes, points: Floats, count: Int, cells: Tables, reach: Int, even: Int, signed: Int,
    choices: Ints, signs: Bytes, q: Floats, left: Floats,
) -> None:  # fmt: skip
    """Choose points and signs for the columns of a block, whose number in the matrix is first, first + 1, …

    unit, variances: N and D
    groups: of each unit of columns, its group's number: int64 (units,)
    target, w: float32 (b, n); the block's targets are changed on the way
    scales, shifts, books: (groups, n)
    points: float32 (books * count, size); cells, reach: see `cells.py`
    → choices (b / size, n), signs (units, n), q: what the weights become, left: w minus that
    """
    (b, n), size = w.shape, points.shape[1]
    together = b // groups.size
    parts = together // size
    g, found = np.empty((together, together), np.float32), np.empty((parts, n), np.int32)
    room = new_room(together, n, cells, reach)
    for start in range(0, b, together):
        end, number = start + together, start // together
        group = groups[number]
        for c in range(start, end):
            _leave(target[c], w[c], left[c])
            for later in range(c + 1, end):
                _add(unit[where(first + c, first + later)], left[c], target[later])
        metric(unit, variances, first + start, g)
        find_nearest(
            target[start:end], g, scales[group], shifts[group], books[group], points, cells, reach, even, signed,
            room, found, signs[number],
        )  # fmt: skip
        for part in range(parts):
            for r in range(n):
                choices[number * parts + part, r] = U16(found[part, r])
        for i in range(together):
            c = start + i
            _stand(
                i, i % size, scales[group], shifts[group], points, books[group], count, found[i // size],
                signs[number], q[c],
            )  # fmt: skip
            _leave(q[c], w[c], left[c])
        if end < b:
            add_down(unit, first + start, left[start:end], first + end, target[end:])


@kernel
def invert(g: Floats, a: Floats, inverse: Floats) -> None:
    """The inverse of g (u, u), which is positive definite, in float64. a (u, 2 u): room"""
    u = g.shape[0]
    for i in range(u):
        for j in range(u):
            a[i, j] = g[i, j]
            a[i, u + j] = 1.0 if i == j else 0.0
    for c in range(u):
        pivot = a[c, c]
        for j in range(2 * u):
            a[c, j] = a[c, j] / pivot
        for i in range(u):
            factor = -a[i, c]
            if i != c:
                for j in range(2 * u):
                    a[i, j] = fma(factor, a[c, j], a[i, j])
    for i in range(u):
        for j in range(u):
            inverse[i, j] = F32(a[i, u + j])


@disjoint_kernel
def gain(g: Floats, slopes: Floats, new: Floats, gain: Floats) -> None:
    """What a row loses less if its unit changes by -new: 2 P t + t G tᵀ is below zero where it gains."""
    gain[:] = ZERO
    for i in range(g.shape[0]):
        for r in range(gain.size):
            gain[r] = fma(TWO * slopes[i, r], new[i, r], gain[r])
        for j in range(g.shape[0]):
            h = g[i, j]
            for r in range(gain.size):
                gain[r] = fma(h * new[i, r], new[j, r], gain[r])


@kernel(
    "int64(float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], uint8[:,::1], "
    f"Array(float32, 2, 'C', True), int64, {CELLS_OF}, int64, int64, int64, uint16[:,::1], uint8[:,::1])"
)
def descend_points(
    gram: Floats, p: Floats, q: Floats, scales: Floats, shifts: Floats, books: Bytes, points: Floats, count: Int,
    cells: Tables, reach: Int, even: Int, signed: Int, choices: Ints, signs: Bytes,
) -> Int:  # fmt: skip
    """One round over all units of each row; how many changed.

    gram: H (k, k)
    p, q: slopes, float32 (n, k), and what weights are now, (k, n)
    scales, shifts, books: (k / group, n)
    choices, signs: as `round_points` makes them, of all columns
    """
    (k, n), size = q.shape, points.shape[1]
    together = k // signs.shape[0]
    group, parts = k // scales.shape[0], together // size
    g, found = np.empty((together, together), np.float32), np.empty((parts, n), np.int32)
    a, inverse = np.empty((together, 2 * together), np.float64), np.empty((together, together), np.float32)
    slopes, x, away = np.empty((3, together, n), np.float32)
    gains, negative = np.empty(n, np.float32), np.empty(n, np.uint8)
    room = new_room(together, n, cells, reach)
    changes = new_changes(n)
    changed = 0
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        changes[2][:] = 0
        for start in range(first, last, together):
            number, its = start // together, start // group
            for i in range(together):
                for j in range(together):
                    g[i, j] = gram[start + i, start + j]
            invert(g, a, inverse)
            for r in range(n):
                for i in range(together):
                    slopes[i, r] = p[r, start + i]
            for i in range(together):
                x[i] = q[start + i]
                for j in range(together):
                    _add(inverse[i, j], slopes[j], x[i])
            find_nearest(
                x,
                g,
                scales[its],
                shifts[its],
                books[its],
                points,
                cells,
                reach,
                even,
                signed,
                room,
                found,
                negative,
            )
            for i in range(together):
                _stand(
                    i,
                    i % size,
                    scales[its],
                    shifts[its],
                    points,
                    books[its],
                    count,
                    found[i // size],
                    negative,
                    x[i],
                )
                _leave(x[i], q[start + i], away[i])
            gain(g, slopes, away, gains)
            for r in range(n):
                if gains[r] < ZERO:
                    changed += 1
                    signs[number, r] = negative[r]
                    for part in range(parts):
                        choices[number * parts + part, r] = U16(found[part, r])
                    for i in range(together):
                        q[start + i, r] = x[i, r]
                        if away[i, r] != ZERO:
                            note(changes, gram, start + i, away[i, r], first, last, r, p)
        take_all(changes, gram, first, last, p)
    return changed
