"""Pairs of weights that share five bits: 32 of the 64 pairs of three-bit values.

    second   -63 -40 -23 -10   1  13  28  47
    first
      -63             x           x
      -40     x           x       x       x
      -23         x   x       x   x   x
      -10     x               x   x       x
        1             x   x   x   x   x
       13         x   x   x   x   x
       28     x       x       x       x   x
       47             x           x

A pair with an x has a code; codes count up along the rows.

Where the two nearest values are no such pair, the reference takes the best of the eight pairs next to them: nearest
first, the first of the best wins. Of the eight at most four can ever win: one loses where an earlier one is at least as
near in both directions, wherever in the cell the weights are.

Origin: ik_llama.cpp, ggml-common.h (iq2kl_values), quantize_row_iq2_kl_impl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.scalars import F32, I32, Float, Int

from quantrecipe_ik.core.value_tables import THREE_BITS, signed_byte

__all__ = ["PAIRS", "code_near", "pair_near"]

NEIGHBOURS, RIVALS = 8, 4
_VALUES = THREE_BITS.plain
_SIDE = len(_VALUES)
_HALFWAY = tuple(F32(low + high) / F32(2) for low, high in pairwise(_VALUES))
_ROWS = tuple(I32(_SIDE * i) for i in range(1, _SIDE))
_COLUMNS = tuple(I32(i) for i in range(1, _SIDE))
_NONE, _FAR = I32(0), F32(THREE_BITS.end)
_CELLS = (
    *(2, 5),
    *(8, 11, 13, 15),
    *(17, 18, 20, 21, 22),
    *(24, 28, 29, 31),
    *(34, 35, 36, 37, 38),
    *(41, 42, 43, 44, 45),
    *(48, 50, 52, 54, 55),
    *(58, 61),
)
"""8 * row + column of each code in the drawing above."""
PAIRS = np.array([(_VALUES[cell // _SIDE], _VALUES[cell % _SIDE]) for cell in _CELLS], F32)
"""float32 (32, 2): the two values of each code."""


def _rivals(cell: int) -> Iterator[int]:
    """The codes that can win where the two nearest values are those of a cell, in the order in which they are tried."""
    if cell in _CELLS:
        yield _CELLS.index(cell)
        return
    row, column = divmod(cell, _SIDE)
    away = (PAIRS[:, 0] - _VALUES[row]) ** 2 + (PAIRS[:, 1] - _VALUES[column]) ** 2
    tried: list[int] = []
    for code in np.argsort(away, kind="stable")[:NEIGHBOURS]:
        if not any(
            _never_further(PAIRS[other, 0], PAIRS[code, 0], row)
            and _never_further(PAIRS[other, 1], PAIRS[code, 1], column)
            for other in tried
        ):
            tried.append(int(code))
            yield int(code)


def _never_further(one: float, other: float, index: int) -> bool:
    """Whether one value is at least as near as the other to all numbers whose nearest value has this index."""
    beyond = 1e4
    low = (_VALUES[index - 1] + _VALUES[index]) / 2 if index > 0 else -beyond
    high = (_VALUES[index] + _VALUES[index + 1]) / 2 if index + 1 < _SIDE else beyond
    return abs(one - low) <= abs(other - low) and abs(one - high) <= abs(other - high)


@cache
def _rival_tables() -> tuple[np.ndarray[Any, np.dtype[np.int32]], np.ndarray[Any, np.dtype[np.int32]]]:
    """(values, codes) of the rivals of each cell: int32 (2 * 64,), four bytes each for two rivals; int32 (64,)."""
    values, codes = np.zeros((_SIDE * _SIDE, RIVALS, 2), np.int8), np.zeros((_SIDE * _SIDE, RIVALS), np.uint8)
    for cell in range(_SIDE * _SIDE):
        rivals = list(_rivals(cell))
        rivals += [rivals[-1]] * (RIVALS - len(rivals))  # once more never wins
        values[cell], codes[cell] = PAIRS[rivals], rivals
    return values.ravel().view("<i4").astype(I32), codes.ravel().view("<i4").astype(I32)


@kernel
def _score(x: Float, y: Float, w: Float, v: Float, first: Float, second: Float) -> Float:
    a, b = first - x, second - y
    return w * a * a + v * b * b


@cache
def _near(*, with_code: bool) -> Callable[..., Any]:
    values, codes = _rival_tables()

    @kernel
    def near(x: Float, y: Float, w: Float, v: Float) -> tuple[Float, Float, Int]:
        row, column = _NONE, _NONE
        for i in range(_SIDE - 1):
            row = row if x < _HALFWAY[i] else _ROWS[i]
            column = column if y < _HALFWAY[i] else _COLUMNS[i]
        row, column = row if x < _FAR else _NONE, column if y < _FAR else _NONE
        cell = I32(row + column) & I32(63)
        near, far = values[2 * cell], values[2 * cell + 1]
        first, second = signed_byte(near, 0), signed_byte(near, 1)
        best, winner = _score(x, y, w, v, first, second), I32(0)
        a, b = signed_byte(near, 2), signed_byte(near, 3)
        score = _score(x, y, w, v, a, b)
        better = score < best
        first, second, best = a if better else first, b if better else second, score if better else best
        winner = I32(1) if better else winner
        a, b = signed_byte(far, 0), signed_byte(far, 1)
        score = _score(x, y, w, v, a, b)
        better = score < best
        first, second, best = a if better else first, b if better else second, score if better else best
        winner = I32(2) if better else winner
        a, b = signed_byte(far, 2), signed_byte(far, 3)
        score = _score(x, y, w, v, a, b)
        better = score < best
        first, second = a if better else first, b if better else second
        winner = I32(3) if better else winner
        code = I32(I32(codes[cell] >> I32(8 * winner)) & I32(31)) if with_code else I32(0)
        return first, second, code

    return near


def pair_near() -> Callable[..., Any]:
    """The kernel near(x, y, w, v): both values (float32) of the best pair for x and y, which count w and v; and 0."""
    return _near(with_code=False)


def code_near() -> Callable[..., Any]:
    """The kernel near(x, y, w, v): the same, and the pair's code (int32)."""
    return _near(with_code=True)
