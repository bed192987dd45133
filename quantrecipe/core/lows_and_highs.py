"""The lowest and the highest weight of each block, and the first of largest size, as knock-out tournaments.

A minimum of many floats may not be vectorised in any other order than theirs, since it would have to say which of 0 and
-0 it means. In a tournament of neighbours the order is known: of two that are equal the left one goes on, so that the
first of all wins. In each round as many pairs as there are meet side by side.

    x       a b c d e f g h …     the weights of BLOCKS blocks
    round   ab  cd  ef  gh  …     half as many
    round   abcd    efgh    …     until there is one of each block
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import select
from quantrecipe.core.scalars import ZERO, Float, Floats, Int

__all__ = ["first_peaks", "lows_and_highs"]

BLOCKS = 64
"""Blocks whose tournaments are held at once: few enough for a processor's nearest cache."""


@kernel
def _lower(left: Float, right: Float) -> Float:
    return select(right < left, right, left)


@kernel
def _higher(left: Float, right: Float) -> Float:
    return select(right > left, right, left)


@kernel
def _larger(left: Float, right: Float) -> Float:
    """The one of larger size."""
    return select(abs(right) > abs(left), right, left)


@disjoint_kernel
def _lower_and_higher(x: Floats, at: Int, count: Int, low: Floats, high: Floats) -> None:
    """The first round of both: from x[at:] on, count pairs."""
    at = place(at)
    for i in range(count):
        left, right = x[at + 2 * i], x[at + 2 * i + 1]
        low[i], high[i] = _lower(left, right), _higher(left, right)


@cache
def _round(better: Callable[..., Any]) -> Callable[..., None]:
    """The kernel play(x, at, count, to, start): to[start:] = the better one of each of count pairs of x[at:]."""

    @disjoint_kernel
    def play(x: Floats, at: Int, count: Int, to: Floats, start: Int) -> None:
        at, start = place(at), place(start)
        for i in range(count):
            to[start + i] = better(x[at + 2 * i], x[at + 2 * i + 1])

    return play


@cache
def _other_rounds(n: int, better: Callable[..., Any]) -> Callable[..., None]:
    """The kernel play(a, b, count, winners, start): the rounds after the first, whose count winners are in a."""
    play = _round(better)
    rounds = n.bit_length() - 2

    @kernel
    def play_all(a: Floats, b: Floats, count: Int, winners: Floats, start: Int) -> None:
        for _ in range(rounds // 2 - 1):
            play(a, 0, count // 2, b, 0)
            play(b, 0, count // 4, a, 0)
            count //= 4
        play(a, 0, count // 2, b, 0)
        play(b, 0, count // 4, winners, start)

    return play_all


@cache
def lows_and_highs(n: int) -> Callable[..., None]:
    """The kernel find(x, low, high) for flat x, blocks of n: low[b] and high[b], float32, of each block.

    Of zeros, the first one counts.
    """
    play_low, play_high = _other_rounds(n, _lower), _other_rounds(n, _higher)

    @kernel
    def find(x: Floats, low: Floats, high: Floats) -> None:
        a, b = np.empty(BLOCKS * n // 2, np.float32), np.empty(BLOCKS * n // 2, np.float32)
        c = np.empty(BLOCKS * n // 4, np.float32)
        for first in range(0, low.size, BLOCKS):
            count = min(BLOCKS, low.size - first) * n // 2
            _lower_and_higher(x, first * n, count, a, b)
            play_low(a, c, count, low, first)
            play_high(b, c, count, high, first)

    return find


@cache
def first_peaks(n: int) -> Callable[..., None]:
    """The kernel find(x, peaks) for flat x: peaks[b] = the first of block b's weights that are largest in size.

    It is 0, not -0, if all are 0.
    """
    play, play_all = _round(_larger), _other_rounds(n, _larger)

    @kernel
    def find(x: Floats, peaks: Floats) -> None:
        a, b = np.empty(BLOCKS * n // 2, np.float32), np.empty(BLOCKS * n // 4, np.float32)
        for first in range(0, peaks.size, BLOCKS):
            count = min(BLOCKS, peaks.size - first) * n // 2
            play(x, first * n, count, a, 0)
            play_all(a, b, count, peaks, first)
        for i in range(peaks.size):
            peaks[i] = select(peaks[i] == ZERO, ZERO, peaks[i])

    return find
