"""Columns rounded in order where four or eight weights are one point of a grid, with signs for each eight.

Eight columns are rounded together. What they should be is known as for single columns (see `rounding.py`): the best
that there is without a grid, x. Missing it by e costs e G eᵀ, where G = N D Nᵀ of these columns. Only its diagonal
counts here, as importance does in ggml's search, so that signs are those of x, and the nearest point is

    the p with the least  Σ v_i p_i² - 2 Σ v_i |x_i| / scale · p_i,     v = diag(G)

Points of IQ1 have signs of their own, and a group of IQ1_S adds a shift to them. What they have to come near to is
x / scale - shift then, and no signs are looked for.

All points are tried: for a grid of 512 points of four weights that is a multiply-add for each weight and point. Where
an even number of signs is stored, and x has an odd one, the weight that it costs least is taken with the other sign.

Descent does the same once more, eight by eight, with H in the place of G: x is then what would be best for the eight
with all other columns as they are. The point that is found so is taken if R H Rᵀ becomes smaller by it, as a whole.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import select
from quantrecipe.core.scalars import F32, I32, INF, TWO, U8, U16, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.encoders.feedback.descent import BLOCK, new_changes, note, take_all
from quantrecipe.encoders.feedback.products import add_down, fma, where

__all__ = ["EIGHT", "descend_points", "round_points"]

EIGHT = 8


@disjoint_kernel
def _add(factor: Float, x: Floats, y: Floats) -> None:
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@disjoint_kernel
def _leave(target: Floats, w: Floats, left: Floats) -> None:
    for r in range(target.size):
        left[r] = w[r] - target[r]


@disjoint_kernel
def _weigh(
    i: Int,
    x: Floats,
    scale: Floats,
    v: Float,
    y: Floats,
    signs: Bytes,
    odd: Bytes,
    least: Floats,
    least_at: Ints,
) -> None:
    """Weight i of an eight: y = v |x| / scale, its sign, and whether it is the one whose sign costs least so far."""
    for r in range(x.size):
        t = select(scale[r] != ZERO, x[r] / scale[r], ZERO)
        y[r] = v * abs(t)
        negative = U8(t < ZERO)
        signs[r] = U8(signs[r] | U8(negative << U8(i)))
        odd[r] = U8(odd[r] ^ negative)
        cost = y[r] * abs(t)
        cheaper = cost < least[r]
        least[r] = select(cheaper, cost, least[r])
        least_at[r] = select(cheaper, I32(i), least_at[r])


@disjoint_kernel
def _weigh_signed(x: Floats, scale: Floats, shift: Floats, v: Float, y: Floats) -> None:
    """The same where points have signs: y = v (x / scale - shift)."""
    for r in range(x.size):
        y[r] = v * (select(scale[r] != ZERO, x[r] / scale[r], ZERO) - shift[r])


@disjoint_kernel
def _flip(i: Int, y: Floats, signs: Bytes, odd: Bytes, least_at: Ints) -> None:
    for r in range(y.size):
        flipped = (odd[r] == U8(1)) & (least_at[r] == I32(i))
        y[r] = select(flipped, -y[r], y[r])
        signs[r] = select(flipped, U8(signs[r] ^ U8(1 << i)), signs[r])


@disjoint_kernel
def _try_four(
    p: Int, even: Float, a: Float, b: Float, c: Float, d: Float, y: Floats, least: Floats, found: Ints
) -> None:
    for r in range(least.size):
        cost = fma(d, y[3, r], fma(c, y[2, r], fma(b, y[1, r], fma(a, y[0, r], even))))
        better = cost < least[r]
        least[r] = select(better, cost, least[r])
        found[r] = select(better, I32(p), found[r])


@disjoint_kernel
def _try_eight(p: Int, even: Float, of: Floats, y: Floats, least: Floats, found: Ints) -> None:
    a, b, c, d, e, f, g, h = of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7]
    for r in range(least.size):
        cost = fma(d, y[3, r], fma(c, y[2, r], fma(b, y[1, r], fma(a, y[0, r], even))))
        cost = fma(h, y[7, r], fma(g, y[6, r], fma(f, y[5, r], fma(e, y[4, r], cost))))
        better = cost < least[r]
        least[r] = select(better, cost, least[r])
        found[r] = select(better, I32(p), found[r])


@disjoint_kernel
def _stand(
    i: Int, at: Int, scale: Floats, shift: Floats, points: Floats, found: Ints, signs: Bytes, q: Floats
) -> None:
    """What weight i of an eight becomes, which is number `at` of its point."""
    for r in range(q.size):
        value = scale[r] * (points[found[r], at] + shift[r])
        q[r] = select(U8(signs[r] >> U8(i)) & U8(1) != U8(0), -value, value)


@disjoint_kernel
def _find(
    x: Floats, v: Floats, scale: Floats, shift: Floats, points: Floats, even: Int, signed: Int, y: Floats,
    least: Floats, least_at: Ints, odd: Bytes, found: Ints, signs: Bytes,
) -> None:  # fmt: skip
    """The nearest points to x (8, n), where weight i counts v[i], to found (8 / size, n), and signs (n,).

    y (8, n), least, least_at, odd: room
    """
    size, of = points.shape[1], np.empty(EIGHT, np.float32)
    signs[:], odd[:], least[:], least_at[:] = U8(0), U8(0), INF, I32(0)
    for i in range(EIGHT):
        if signed:
            _weigh_signed(x[i], scale, shift, v[i], y[i])
        else:
            _weigh(i, x[i], scale, v[i], y[i], signs, odd, least, least_at)
    if even:
        for i in range(EIGHT):
            _flip(i, y[i], signs, odd, least_at)
    for part in range(EIGHT // size):
        begin = part * size
        least[:], found[part] = INF, I32(0)
        for p in range(points.shape[0]):
            square = ZERO
            for i in range(size):
                of[i] = -TWO * points[p, i]
                square = fma(v[begin + i] * points[p, i], points[p, i], square)
            if size == 4:
                _try_four(p, square, of[0], of[1], of[2], of[3], y[begin : begin + 4], least, found[part])
            else:
                _try_eight(p, square, of, y, least, found[part])


@kernel(
    "void(float32[::1], float32[::1], int64, int64[::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "float32[:,::1], Array(float32, 2, 'C', True), int64, int64, uint16[:,::1], uint8[:,::1], float32[:,::1], "
    "float32[:,::1])"
)
def round_points(
    unit: Floats, variances: Floats, first: Int, groups: Ints, target: Floats, w: Floats, scales: Floats,
    shifts: Floats, points: Floats, even: Int, signed: Int, choices: Ints, signs: Bytes, q: Floats, left: Floats,
) -> None:  # fmt: skip
    """Choose points and signs for the columns of a block, whose number in the matrix is first, first + 1, …

    unit, variances: N and D
    groups: of each eight, its group's number: int64 (b / 8,)
    target, w: float32 (b, n); the block's targets are changed on the way
    scales, shifts: float32 (groups, n)
    points: float32 (p, size)
    → choices (b / size, n), signs (b / 8, n), q: what the weights become, left: w minus that
    """
    (b, n), size = w.shape, points.shape[1]
    parts = EIGHT // size
    y, least, v = np.empty((EIGHT, n), np.float32), np.empty(n, np.float32), np.empty(EIGHT, np.float32)
    least_at, odd, found = np.empty(n, np.int32), np.empty(n, np.uint8), np.empty((parts, n), np.int32)
    for start in range(0, b, EIGHT):
        end, eight = start + EIGHT, start // EIGHT
        scale, shift = scales[groups[eight]], shifts[groups[eight]]
        for i in range(EIGHT):
            c = start + i
            _leave(target[c], w[c], left[c])
            v[i] = variances[first + c]
            for later in range(c + 1, end):
                factor = unit[where(first + c, first + later)]
                _add(factor, left[c], target[later])
                v[i] = fma(factor * factor, variances[first + later], v[i])
        _find(
            target[start:end],
            v,
            scale,
            shift,
            points,
            even,
            signed,
            y,
            least,
            least_at,
            odd,
            found,
            signs[eight],
        )
        for part in range(parts):
            for r in range(n):
                choices[eight * parts + part, r] = U16(found[part, r])
        for i in range(EIGHT):
            _stand(i, i % size, scale, shift, points, found[i // size], signs[eight], q[start + i])
            _leave(q[start + i], w[start + i], left[start + i])
        if end < b:
            add_down(unit, first + start, left[start:end], first + end, target[end:])


@kernel
def _invert(gram: Floats, first: Int, a: Floats, inverse: Floats) -> None:
    """The inverse of the eight's part of H, which is positive definite, in float64. a (8, 16): room"""
    for i in range(EIGHT):
        for j in range(EIGHT):
            a[i, j] = gram[first + i, first + j]
            a[i, EIGHT + j] = 1.0 if i == j else 0.0
    for c in range(EIGHT):
        pivot = a[c, c]
        for j in range(2 * EIGHT):
            a[c, j] = a[c, j] / pivot
        for i in range(EIGHT):
            factor = -a[i, c]
            if i != c:
                for j in range(2 * EIGHT):
                    a[i, j] = fma(factor, a[c, j], a[i, j])
    for i in range(EIGHT):
        for j in range(EIGHT):
            inverse[i, j] = F32(a[i, EIGHT + j])


@disjoint_kernel
def _gain(gram: Floats, first: Int, slopes: Floats, new: Floats, gain: Floats) -> None:
    """What a row loses less if its eight changes by -new: 2 P t + t H tᵀ is below zero where it gains."""
    gain[:] = ZERO
    for i in range(EIGHT):
        for r in range(gain.size):
            gain[r] = fma(TWO * slopes[i, r], new[i, r], gain[r])
        for j in range(EIGHT):
            h = gram[first + i, first + j]
            for r in range(gain.size):
                gain[r] = fma(h * new[i, r], new[j, r], gain[r])


@kernel(
    "int64(float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], "
    "Array(float32, 2, 'C', True), int64, int64, uint16[:,::1], uint8[:,::1])"
)
def descend_points(
    gram: Floats, p: Floats, q: Floats, scales: Floats, shifts: Floats, points: Floats, even: Int, signed: Int,
    choices: Ints, signs: Bytes,
) -> Int:  # fmt: skip
    """One round over all eights of each row; how many changed.

    gram: H (k, k)
    p, q: slopes, float32 (n, k), and what weights are now, (k, n)
    scales, shifts: float32 (k / group, n)
    choices, signs: as `round_points` makes them, of all columns
    """
    (k, n), size = q.shape, points.shape[1]
    group, parts = k // scales.shape[0], EIGHT // size
    y, least, v = np.empty((EIGHT, n), np.float32), np.empty(n, np.float32), np.empty(EIGHT, np.float32)
    least_at, odd, found = np.empty(n, np.int32), np.empty(n, np.uint8), np.empty((parts, n), np.int32)
    a, inverse = np.empty((EIGHT, 2 * EIGHT), np.float64), np.empty((EIGHT, EIGHT), np.float32)
    slopes, x, away = (
        np.empty((EIGHT, n), np.float32),
        np.empty((EIGHT, n), np.float32),
        np.empty((EIGHT, n), np.float32),
    )
    negative = np.empty(n, np.uint8)
    changes = new_changes(n)
    changed = 0
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        changes[2][:] = 0
        for start in range(first, last, EIGHT):
            eight = start // EIGHT
            scale, shift = scales[start // group], shifts[start // group]
            _invert(gram, start, a, inverse)
            for r in range(n):
                for i in range(EIGHT):
                    slopes[i, r] = p[r, start + i]
            for i in range(EIGHT):
                v[i], x[i] = gram[start + i, start + i], q[start + i]
                for j in range(EIGHT):
                    _add(inverse[i, j], slopes[j], x[i])
            _find(x, v, scale, shift, points, even, signed, y, least, least_at, odd, found, negative)
            for i in range(EIGHT):
                _stand(i, i % size, scale, shift, points, found[i // size], negative, x[i])
                _leave(x[i], q[start + i], away[i])
            _gain(gram, start, slopes, away, least)
            for r in range(n):
                if least[r] < ZERO:
                    changed += 1
                    signs[eight, r] = negative[r]
                    for part in range(parts):
                        choices[eight * parts + part, r] = U16(found[part, r])
                    for i in range(EIGHT):
                        q[start + i, r] = x[i, r]
                        if away[i, r] != ZERO:
                            note(changes, gram, start + i, away[i, r], first, last, r, p)
        take_all(changes, gram, first, last, p)
    return changed
