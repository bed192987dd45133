"""The best scale for groups of weights around zero, by moving single integers: x ≈ scale * q, q from -nmax to nmax - 1.

ggml: make_q3_quants. The weight of largest size becomes -nmax; then, for up to five rounds, each integer in turn
moves to where it fits the others best, if that raises the share of the weights that is caught, (∑ w x q)² / ∑ w q².
A weight counts its square.

Each step waits for the one before, a division included; so WIDE groups stand side by side, four times as many as
elsewhere (see `lanes.py`), and the steps of some fill the waits of others. After a round four groups in five are
done: those that moved go on together, FEW at a time.

    workspace  flat float32, rows of WIDE (or FEW) numbers
      SCALE      result: the scale
      X, WEIGHT  (n rows)  weights, and what each counts
      Q          (n rows)  result: the integers, nmax added
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import nearest, nearest_int, select
from quantrecipe.core.scalars import F32, I32, ONE, ZERO, Floats, Int, Ints

__all__ = ["MOVES_WORKSPACE", "SCALE", "WIDE", "Q", "make_q3_quants"]

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
ROUNDS = 5

WIDE, FEW = 128, 32
LONGEST = 16
ROWS = 6 + 3 * LONGEST


def _rows(width: int) -> tuple[int, ...]:
    """Offsets of the workspace's parts for this many groups: SXL, SL2, MOVED, SCALE, PEAK, SIZE, X, WEIGHT, Q."""
    return (*(row * width for row in range(6)), *((6 + part * LONGEST) * width for part in range(3)))


SXL, SL2, MOVED, SCALE, PEAK, SIZE, X, WEIGHT, Q = _rows(WIDE)
FEW_SXL, FEW_SL2, FEW_MOVED, _, _, _, FEW_X, FEW_WEIGHT, FEW_Q = _rows(FEW)
MOVES_WORKSPACE = ROWS * WIDE


@cache
def _move_once(n: int, nmax: int, width: int) -> Callable[..., None]:
    """The kernel move(s): each integer of each group in turn, once; MOVED says which groups did."""
    sums_xl, sums_l2, flags, _, _, _, weights, counts, integers = _rows(width)
    lowest, highest = I32(-nmax), I32(nmax - 1)

    @kernel
    def move_once(s: Floats) -> None:
        for j in range(width):
            s[flags + j] = ZERO
        for i in range(n):
            for j in range(width):
                x, w, old = s[weights + i * width + j], s[counts + i * width + j], s[integers + i * width + j]
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


@cache
def make_q3_quants(n: int, nmax: int) -> Callable[..., None]:
    """The kernel search(x, first, count, s): the scales and integers of count ≤ WIDE groups of n weights of flat x.

    Both are 0 for a group without a weight above 1e-15. Lanes from count on repeat the last group.
    """
    low, high, shift = F32(-nmax), F32(nmax - 1), F32(nmax)
    move_all, move_few = _move_once(n, nmax, WIDE), _move_once(n, nmax, FEW)

    @kernel
    def start(x: Floats, first: Int, count: Int, s: Floats) -> None:
        for j in range(WIDE):
            at = place((first + min(j, count - 1)) * n)
            for i in range(n):
                s[X + i * WIDE + j] = x[at + i]
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
                s[WEIGHT + i * WIDE + j] = w
                s[Q + i * WIDE + j] = q
                s[SXL + j] += w * v * q
                s[SL2 + j] += w * q * q

    @kernel
    def go_on(s: Floats, lanes: Ints, count: Int, t: Floats) -> None:
        """The other rounds of the groups at these lanes of s; t is a workspace for FEW."""
        for k in range(FEW):
            lane = place(lanes[min(k, count - 1)])
            t[FEW_SXL + k], t[FEW_SL2 + k] = s[SXL + lane], s[SL2 + lane]
            for i in range(n):
                t[FEW_X + i * FEW + k] = s[X + i * WIDE + lane]
                t[FEW_WEIGHT + i * FEW + k] = s[WEIGHT + i * WIDE + lane]
                t[FEW_Q + i * FEW + k] = s[Q + i * WIDE + lane]
        for _ in range(1, ROUNDS):
            move_few(t)
            moved = ZERO
            for k in range(FEW):
                moved += t[FEW_MOVED + k]
            if moved == ZERO:
                break
        for k in range(count):
            lane = place(lanes[k])
            s[SXL + lane], s[SL2 + lane] = t[FEW_SXL + k], t[FEW_SL2 + k]
            for i in range(n):
                s[Q + i * WIDE + lane] = t[FEW_Q + i * FEW + k]

    @kernel
    def search(x: Floats, first: Int, count: Int, s: Floats) -> None:
        start(x, first, count, s)
        move_all(s)
        lanes, t = np.empty(FEW, np.int64), np.empty(ROWS * FEW, np.float32)
        found = 0
        for j in range(count):
            if s[MOVED + j] != ZERO:
                lanes[found] = j
                found += 1
            if found == FEW or (found > 0 and j == count - 1):
                go_on(s, lanes, found, t)
                found = 0
        for j in range(WIDE):
            scale = select(s[SL2 + j] > ZERO, s[SXL + j] / s[SL2 + j], ZERO)
            s[SCALE + j] = select(s[SIZE + j] < EPSILON, ZERO, scale)
        for i in range(n):
            for j in range(WIDE):
                s[Q + i * WIDE + j] = select(s[SIZE + j] < EPSILON, ZERO, s[Q + i * WIDE + j] + shift)

    return search
