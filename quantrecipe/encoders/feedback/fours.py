"""Columns rounded in order where of each four weights an even number takes odd values, as in ik_llama.cpp's IQ4_KSS.

The columns of a four are rounded one after the other, wherever they stand in the matrix. Each may take the nearest of
the even values or the nearest of the odd ones. Of the eight ways in which an even number is odd, the one stays that
loses least, Σ D_j m_j², where m_j is what column j misses its target by, given what was chosen before.

Descent does the same once more, four by four: the targets are then what would be best for the four with all other
columns as they are, and N and D are the factors of their part of H. What is found so is taken if R H Rᵀ becomes smaller
by it.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import select
from quantrecipe.core.scalars import INF, U8, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.encoders.feedback.descent import BLOCK, new_changes, note, take_all
from quantrecipe.encoders.feedback.points import gain, invert
from quantrecipe.encoders.feedback.products import add_down, fma, where

__all__ = ["FOUR", "descend_fours", "factor_four", "round_fours"]

FOUR = 4
WAYS = 8
"""Even, even, even, even; odd, odd, even, even; …: the first three are free."""


@disjoint_kernel
def _add(factor: Float, x: Floats, y: Floats) -> None:
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@disjoint_kernel
def _round(
    target: Floats, w: Floats, scale: Floats, offset: Floats, shift: Floats, values: Floats, halfway: Floats,
    own: Bytes, d: Float, t: Floats, choices: Bytes, q: Floats, left: Floats, cost: Floats,
) -> None:  # fmt: skip
    """The nearest of these values, in ascending order, whose numbers are `own`; what it misses, added to cost."""
    for r in range(target.size):
        t[r] = select(scale[r] != ZERO, (target[r] - offset[r]) / scale[r] - shift[r], ZERO)
        q[r], choices[r] = values[0], own[0]
    for i in range(halfway.size):
        bound, above, number = halfway[i], values[i + 1], own[i + 1]
        for r in range(target.size):
            higher = t[r] > bound
            q[r] = select(higher, above, q[r])
            choices[r] = select(higher, number, choices[r])
    for r in range(target.size):
        q[r] = scale[r] * (q[r] + shift[r]) + offset[r]
        missed = target[r] - q[r]
        left[r] = w[r] - q[r]
        cost[r] = fma(d * missed, missed, cost[r])


@disjoint_kernel
def _keep(better: Bytes, new: Floats, kept: Floats) -> None:
    for r in range(kept.size):
        kept[r] = select(better[r] != U8(0), new[r], kept[r])


@disjoint_kernel
def _compare(cost: Floats, least: Floats, better: Bytes) -> None:
    for r in range(cost.size):
        better[r] = U8(cost[r] < least[r])
        least[r] = select(cost[r] < least[r], cost[r], least[r])


@kernel
def _choose(
    n4: Floats, d: Floats, target: Floats, w: Floats, scale: Floats, offset: Floats, shift: Floats,
    values: Floats, halfway: Floats, own: Bytes, room: Floats, tried: Bytes, choices: Bytes, q: Floats,
) -> None:  # fmt: skip
    """choices and q (4, n): the best of the eight ways for targets (4, n), of weights w.

    n4: float32 (4, 4): N of these columns; d: their D; values, halfway, own: (2, …), the even ones, then the odd ones
    room: float32 (15, n); tried: uint8 (5, n)
    """
    goal, made, left = room[0:4], room[4:8], room[8:12]
    t, cost, least = room[12], room[13], room[14]
    better = tried[4]
    least[:] = INF
    choices[:] = U8(0)
    q[:] = ZERO
    for way in range(WAYS):
        cost[:] = ZERO
        for i in range(FOUR):
            odd = (way >> i) & 1 if i < FOUR - 1 else (way ^ (way >> 1) ^ (way >> 2)) & 1
            goal[i] = target[i]
            for j in range(i):
                _add(n4[j, i], left[j], goal[i])
            _round(
                goal[i], w[i], scale, offset, shift, values[odd], halfway[odd], own[odd], d[i], t, tried[i], made[i],
                left[i], cost,
            )  # fmt: skip
        _compare(cost, least, better)
        for i in range(FOUR):
            _keep(better, made[i], q[i])
            _keep(better, tried[i], choices[i])


@disjoint_kernel
def _leave(target: Floats, q: Floats, left: Floats) -> None:
    for r in range(target.size):
        left[r] = target[r] - q[r]


@kernel(
    "void(float32[::1], float32[::1], int64, int64[::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], uint8[:,::1], uint8[:,::1], float32[:,::1], "
    "float32[:,::1], float32[:,::1])"
)
def round_fours(
    unit: Floats, variances: Floats, first: Int, groups: Ints, target: Floats, w: Floats, scales: Floats,
    offsets: Floats, shifts: Floats, values: Floats, halfway: Floats, own: Bytes, choices: Bytes, q: Floats,
    left: Floats, missed: Floats,
) -> None:  # fmt: skip
    """Choose values for the columns of a block, whose number in the matrix is first, first + 1, …, four by four.

    unit, variances: N and D
    groups: of each four, its group's number: int64 (b / 4,)
    target, w: float32 (b, n); the block's targets are changed on the way
    scales, offsets, shifts: float32 (groups, n)
    → choices (b, n): numbers of the grid's values; q: what the weights become; left: w minus that; missed: target
      minus that
    """
    b, n = w.shape
    n4, room, tried = (
        np.zeros((FOUR, FOUR), np.float32),
        np.empty((15, n), np.float32),
        np.empty((5, n), np.uint8),
    )
    for start in range(0, b, FOUR):
        end, g = start + FOUR, groups[start // FOUR]
        for i in range(FOUR):
            for j in range(i + 1, FOUR):
                n4[i, j] = unit[where(first + start + i, first + start + j)]
        _choose(
            n4, variances[first + start : first + end], target[start:end], w[start:end], scales[g], offsets[g],
            shifts[g], values, halfway, own, room, tried, choices[start:end], q[start:end],
        )  # fmt: skip
        for c in range(start, end):
            for j in range(start, c):
                _add(n4[j - start, c - start], left[j], target[c])
            _leave(w[c], q[c], left[c])
            _leave(target[c], q[c], missed[c])
        if end < b:
            add_down(unit, first + start, left[start:end], first + end, target[end:])


@kernel
def factor_four(g: Floats, unit: Floats, d: Floats) -> None:
    """g (4, 4) = N D Nᵀ, N being upper triangular with ones on its diagonal."""
    for j in range(FOUR - 1, -1, -1):
        total = g[j, j]
        for later in range(j + 1, FOUR):
            total = fma(-unit[j, later] * unit[j, later], d[later], total)
        d[j] = total
        for i in range(j):
            total = g[i, j]
            for later in range(j + 1, FOUR):
                total = fma(-unit[i, later] * unit[j, later], d[later], total)
            unit[i, j] = total / d[j]


@kernel(
    "int64(float32[:,::1], int64[:,::1], int64, float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "float32[:,::1], float32[:,::1], float32[:,::1], uint8[:,::1], uint8[:,::1])"
)
def descend_fours(
    gram: Floats, fours: Ints, group: Int, p: Floats, q: Floats, scales: Floats, offsets: Floats, shifts: Floats,
    values: Floats, halfway: Floats, own: Bytes, choices: Bytes,
) -> Int:  # fmt: skip
    """One round over all fours of each row; how many changed.

    gram:  H (k, k)
    fours: int64 (fours of a group, 4): their places
    p, q:  slopes, float32 (n, k), and what weights are now, (k, n)
    scales, offsets, shifts: float32 (k / group, n)
    choices: uint8 (k, n)
    """
    k, n = q.shape
    g, a, inverse = (
        np.empty((FOUR, FOUR), np.float32), np.empty((FOUR, 2 * FOUR), np.float64), np.empty((FOUR, FOUR), np.float32)
    )  # fmt: skip
    n4, d = np.zeros((FOUR, FOUR), np.float32), np.ones(FOUR, np.float32)
    slopes, x, was, now, away = np.empty((5, FOUR, n), np.float32)
    room, tried, taken = (
        np.empty((15, n), np.float32),
        np.empty((5, n), np.uint8),
        np.empty((FOUR, n), np.uint8),
    )
    gains, changes, changed = np.empty(n, np.float32), new_changes(n), 0
    together = BLOCK // group * group
    for first in range(0, k, together):
        last = min(first + together, k)
        changes[2][:] = 0
        for start in range(first, last, group):
            its = start // group
            for four in range(fours.shape[0]):
                for i in range(FOUR):
                    for j in range(FOUR):
                        g[i, j] = gram[start + fours[four, i], start + fours[four, j]]
                invert(g, a, inverse)
                factor_four(g, n4, d)
                for i in range(FOUR):
                    column = start + fours[four, i]
                    was[i] = q[column]
                    x[i] = was[i]
                    for r in range(n):
                        slopes[i, r] = p[r, column]
                for i in range(FOUR):
                    for j in range(FOUR):
                        _add(inverse[i, j], slopes[j], x[i])
                _choose(
                    n4,
                    d,
                    x,
                    x,
                    scales[its],
                    offsets[its],
                    shifts[its],
                    values,
                    halfway,
                    own,
                    room,
                    tried,
                    taken,
                    now,
                )
                for i in range(FOUR):
                    _leave(was[i], now[i], away[i])
                gain(g, slopes, away, gains)
                for r in range(n):
                    if gains[r] < ZERO:
                        changed += 1
                        for i in range(FOUR):
                            column = start + fours[four, i]
                            q[column, r], choices[column, r] = now[i, r], taken[i, r]
                            if away[i, r] != ZERO:
                                note(changes, gram, column, away[i, r], first, last, r, p)
        take_all(changes, gram, first, last, p)
    return changed
