"""The best scale for groups of weights around zero, by moving single integers: x ≈ scale * q, q from -nmax to nmax - 1.

ggml: make_q3_quants. The weight of largest size becomes -nmax; then, for up to five rounds, each integer in turn
moves to where it fits the others best, if that raises the share of the weights that is caught, (∑ w x q)² / ∑ w q².
A weight counts its square.

Where the others leave an integer, without moving anything, is cheap to bound. With S = ∑ w x q and T = ∑ w q², an
integer q stays if

    |x T - q S| < (S - w x q) / 2        the same as |x (T - w q²) / (S - w x q) - q| < 1/2

So `doubt` looks at all integers of a group at once, with a margin for what float32 loses, and only groups that it can't
speak for move their integers one by one: one group in five. (Where the largest weight is positive, S is negative, and
ggml moves nothing.) After the first round one in four of them is in doubt again.

Each step of a round waits for the one before, a division included; so WIDE groups stand side by side, four times as
many as elsewhere (see `lanes.py`), and the steps of some fill the waits of others.

    workspace  flat float32, rows of WIDE (or FEW) numbers
      SCALE    the factor that makes integers of weights, then the result
      X, Q     (n rows)  weights and integers
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import nearest, nearest_int, select
from quantrecipe.core.scalars import F32, I32, ONE, U8, ZERO, Bytes, Float, Floats, Int, Ints, Tables

__all__ = ["MANY", "make_q3_quants", "moves_room", "round_moved"]

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
ROUNDS = 5

MANY, WIDE, FEW = 512, 128, 32
"""Groups of a search; those that are looked at together; and those that move together after the first round."""
LONGEST = 16
ROWS = 6 + 2 * LONGEST

SURE = F32(0.4998)
"""Of a half, how much `doubt` is sure of, where S - w x q is LEAST of S. float32 is off by less than 0.0001 then."""
LEAST = F32(1 / 32)
SMALL, GREAT, WILD = F32(2.0**-100), F32(2.0**100), F32(2.0**14)
"""Sums that float32 computes with all its bits; and more integers than any weight should be."""


@cache
def _rows(width: int) -> tuple[int, ...]:
    """Offsets of a workspace's rows for this many groups: SXL, SL2, MOVED, SCALE, PEAK, SIZE, X, Q."""
    return (*(row * width for row in range(7)), (6 + LONGEST) * width)


SXL, SL2, MOVED, SCALE, PEAK, SIZE, X, Q = _rows(WIDE)
FEW_SXL, FEW_SL2, FEW_MOVED, FEW_SCALE, _, _, FEW_X, FEW_Q = _rows(FEW)


@kernel
def moves_room() -> Tables:
    """(workspaces for WIDE and for FEW, room for the weights of WIDE groups, twice, lists of MANY and of WIDE)."""
    return (
        np.empty(ROWS * WIDE, np.float32),
        np.empty(ROWS * FEW, np.float32),
        np.empty(LONGEST * WIDE, np.float32),
        np.empty(LONGEST * WIDE, np.float32),
        np.empty(MANY + 1, np.int64),
        np.empty(WIDE + 1, np.int64),
    )


@cache
def _move_once(n: int, nmax: int, width: int) -> Callable[..., None]:
    """The kernel move(s): each integer of each group in turn, once; MOVED says which groups did."""
    sums_xl, sums_l2, flags, _, _, _, weights, integers = _rows(width)
    lowest, highest = I32(-nmax), I32(nmax - 1)

    @kernel
    def move_once(s: Floats) -> None:
        for j in range(width):
            s[flags + j] = ZERO
        for i in range(n):
            for j in range(width):
                x, old = s[weights + i * width + j], s[integers + i * width + j]
                w = x * x
                sxl = s[sums_xl + j] - w * x * old
                sl2 = s[sums_l2 + j] - w * old * old
                new = F32(min(max(nearest_int(x * sl2 / sxl), lowest), highest))
                new_sxl = sxl + w * x * new
                new_sl2 = sl2 + w * new * new
                gain = new_sxl * new_sxl * s[sums_l2 + j] > s[sums_xl + j] * s[sums_xl + j] * new_sl2
                move = (sxl > ZERO) & (new != old) & (new_sl2 > ZERO) & gain
                s[integers + i * width + j] = select(move, new, old)
                s[sums_xl + j] = select(move, new_sxl, s[sums_xl + j])
                s[sums_l2 + j] = select(move, new_sl2, s[sums_l2 + j])
                s[flags + j] = select(move, ONE, s[flags + j])

    return move_once


@disjoint_kernel
def _deal(x: Floats, at: Int, half: Int, to: Floats, start: Int) -> None:
    """to[start:] = every other one of 2 * half floats of x[at:], and then the others."""
    at, start = place(at), place(start)
    for i in range(half):
        to[start + i], to[start + half + i] = x[at + 2 * i], x[at + 2 * i + 1]


@cache
def make_q3_quants(n: int, nmax: int) -> Callable[..., None]:
    """The kernel search(x, first, count, room, scales): of count ≤ MANY groups of n weights of flat x.

    n is 16. scales: float32; 0 for a group without a weight above 1e-15
    """
    low, high = F32(-nmax), F32(nmax - 1)
    half = n * WIDE // 2
    move_wide, move_few = _move_once(n, nmax, WIDE), _move_once(n, nmax, FEW)

    @kernel
    def stand_side_by_side(x: Floats, at: Int, a: Floats, s: Floats) -> None:
        """X = WIDE groups of x[at:]: dealt once for each bit of the place of a weight in its group."""
        _deal(x, at, half, a, 0)
        _deal(a, 0, half, s, X)
        _deal(s, X, half, a, 0)
        _deal(a, 0, half, s, X)

    @kernel
    def collect(x: Floats, first: Int, groups: Ints, count: Int, b: Floats) -> None:
        """WIDE of the groups, in order; the last of count is repeated."""
        for j in range(WIDE):
            at = place((first + groups[place(min(j, count - 1))]) * n)
            for i in range(n):
                b[j * n + i] = x[at + i]

    @kernel
    def fit(s: Floats) -> None:
        """The integers that the largest weight leads to, and their sums."""
        for j in range(WIDE):
            s[PEAK + j] = ZERO
            s[SIZE + j] = ZERO
            s[SXL + j] = ZERO
            s[SL2 + j] = ZERO
        for i in range(n):
            for j in range(WIDE):
                v = s[X + i * WIDE + j]
                larger = abs(v) > s[SIZE + j]
                s[SIZE + j] = select(larger, abs(v), s[SIZE + j])
                s[PEAK + j] = select(larger, v, s[PEAK + j])
        for j in range(WIDE):
            # What an empty group computes is harmless, and unused.
            s[SCALE + j] = low / select(s[SIZE + j] < EPSILON, ONE, s[PEAK + j])
        for i in range(n):
            for j in range(WIDE):
                v = s[X + i * WIDE + j]
                q = nearest(s[SCALE + j] * v)
                q = select(q > low, q, low)
                q = select(q < high, q, high)
                w = v * v
                s[Q + i * WIDE + j] = q
                s[SXL + j] += w * v * q
                s[SL2 + j] += w * q * q

    @kernel
    def doubt(s: Floats) -> None:
        """MOVED is 0 for groups of which no integer moves; PEAK is used up."""
        for j in range(WIDE):
            s[MOVED + j] = ZERO
            s[PEAK + j] = ZERO
        for i in range(n):
            for j in range(WIDE):
                x, q = s[X + i * WIDE + j], s[Q + i * WIDE + j]
                own = x * x * x * q
                away = x * s[SL2 + j] - q * s[SXL + j]
                bound = SURE * (s[SXL + j] - own)
                # The lowest and the highest integer also stand for what is beyond them.
                moves = ((q < high) & (away > bound)) | ((q > low) & (away < -bound))
                s[MOVED + j] = select(moves, ONE, s[MOVED + j])
                s[PEAK + j] = select(own > s[PEAK + j], own, s[PEAK + j])
        for j in range(WIDE):
            sxl, sl2 = s[SXL + j], s[SL2 + j]
            surely = (sxl > SMALL) & (sxl < GREAT) & (sl2 < GREAT) & (s[SIZE + j] * sl2 < WILD * sxl)
            surely &= sxl - s[PEAK + j] > LEAST * sxl
            moves = s[MOVED + j] if surely else ONE
            s[MOVED + j] = select(s[SCALE + j] > ZERO, moves, ZERO)

    @kernel
    def scale_of(sxl: Float, sl2: Float) -> Float:
        return select(sl2 > ZERO, sxl / sl2, ZERO)

    @kernel
    def go_on(s: Floats, lanes: Ints, begin: Int, count: Int, t: Floats) -> None:
        """The other rounds of count groups, at lanes[begin:] of s; t is a workspace for FEW."""
        for k in range(FEW):
            lane = place(lanes[place(begin + min(k, count - 1))])
            t[FEW_SXL + k], t[FEW_SL2 + k] = s[SXL + lane], s[SL2 + lane]
            for i in range(n):
                t[FEW_X + i * FEW + k] = s[X + i * WIDE + lane]
                t[FEW_Q + i * FEW + k] = s[Q + i * WIDE + lane]
        for _ in range(1, ROUNDS):
            move_few(t)
            moved = ZERO
            for k in range(FEW):
                moved += t[FEW_MOVED + k]
            if moved == ZERO:
                break

    @kernel
    def search(x: Floats, first: Int, count: Int, room: Tables, scales: Floats) -> None:
        s, t, a, b, doubtful, again = room
        found = 0
        for begin in range(0, count, WIDE):
            here = min(WIDE, count - begin)
            for j in range(here):
                doubtful[found + j] = begin + j
            if here == WIDE:
                stand_side_by_side(x, (first + begin) * n, a, s)
            else:
                collect(x, first, doubtful[found:], here, b)
                stand_side_by_side(b, 0, a, s)
            fit(s)
            doubt(s)
            for j in range(here):
                empty = s[SIZE + j] < EPSILON
                scales[begin + j] = select(empty, ZERO, scale_of(s[SXL + j], s[SL2 + j]))
            # Without branches: no processor foresees them.
            for j in range(here):
                doubtful[found] = begin + j
                found += s[MOVED + j] != ZERO
        for begin in range(0, found, WIDE):
            here = min(WIDE, found - begin)
            collect(x, first, doubtful[begin:], here, b)
            stand_side_by_side(b, 0, a, s)
            fit(s)
            move_wide(s)
            doubt(s)
            left = 0
            for j in range(here):
                scales[doubtful[begin + j]] = scale_of(s[SXL + j], s[SL2 + j])
                again[left] = j
                left += s[MOVED + j] != ZERO
            for few in range(0, left, FEW):
                these = min(FEW, left - few)
                go_on(s, again, few, these, t)
                for k in range(these):
                    scales[doubtful[begin + again[few + k]]] = scale_of(t[FEW_SXL + k], t[FEW_SL2 + k])

    return search


@cache
def round_moved(n: int, nmax: int) -> Callable[..., None]:
    """The kernel integers(x, at, levels, to): the search's own integers of one group, nmax added.

    0, not nmax, for a group without a weight above 1e-15. They are seldom the answer: only where the group's scale
    becomes 0.
    """
    low, high = F32(-nmax), F32(nmax - 1)
    lowest, highest, shift = I32(-nmax), I32(nmax - 1), I32(nmax)

    @kernel
    def integers(x: Floats, at: Int, levels: Bytes, to: Int) -> None:
        peak = ZERO
        for i in range(n):
            peak = x[at + i] if abs(x[at + i]) > abs(peak) else peak
        if abs(peak) < EPSILON:
            for i in range(n):
                levels[to + i] = U8(0)
            return
        q = np.empty(n, np.float32)
        sxl, sl2 = ZERO, ZERO
        for i in range(n):
            w = x[at + i] * x[at + i]
            q[i] = min(max(nearest(low / peak * x[at + i]), low), high)
            sxl += w * x[at + i] * q[i]
            sl2 += w * q[i] * q[i]
        for _ in range(ROUNDS):
            moved = False
            for i in range(n):
                v, w, old = x[at + i], x[at + i] * x[at + i], q[i]
                rest_xl, rest_l2 = sxl - w * v * old, sl2 - w * old * old
                new = F32(min(max(nearest_int(v * rest_l2 / rest_xl), lowest), highest))
                new_xl, new_l2 = rest_xl + w * v * new, rest_l2 + w * new * new
                gain = new_xl * new_xl * sl2 > sxl * sxl * new_l2
                if rest_xl > ZERO and new != old and new_l2 > ZERO and gain:
                    q[i], sxl, sl2, moved = new, new_xl, new_l2, True
            if not moved:
                break
        for i in range(n):
            levels[to + i] = U8(I32(q[i]) + shift)

    return integers
