"""The uneven values that a group's integers stand for: a table, or the same table shifted up; each group has one.

Origin: ik_llama.cpp, ggml-common.h (iq2nl_values, iq3nl_values, iq4k_values, iq5nl_values, iq6nl_values).

The nearest value to x is found without a search: the integer part of x says which two values can be it, and one
comparison, the reference's own, which of them it is. One look-up of a number that holds both takes a vector a fifth of
the time that 63 comparisons take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.scalars import F32, I32, ZERO, Float, Int

__all__ = [
    "FIVE_BITS",
    "FOUR_BITS",
    "SIX_BITS",
    "THREE_BITS",
    "TWO_BITS",
    "Table",
    "index_near",
    "value_near",
]

CELLS = 512
MARGIN = 8
"""Cells below the first value, and above the last."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values in rising order.

    plain:    the values of most groups
    shifted:  those of a group whose bit says so
    end:      from here on the reference takes the first value: it looks up the integer part, and a float32 that is no
              int32 converts to the least one on x86-64
    if_nan:   the index that it takes for NaN
    """

    plain: tuple[int, ...]
    shifted: tuple[int, ...]
    end: float = 2.0**31
    if_nan: int = 0

    @property
    def values(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Both tables, one after the other, for decoding."""
        return np.array(self.plain + self.shifted, F32)


def _shifted(plain: tuple[int, ...], by: int, *, end: float = 2.0**31, if_nan: int = 0) -> Table:
    return Table(plain=plain, shifted=tuple(value + by for value in plain), end=end, if_nan=if_nan)


TWO_BITS = _shifted((-31, -13, 1, 17), 5, end=math.inf, if_nan=2)
THREE_BITS = _shifted((-63, -40, -23, -10, 1, 13, 28, 47), 4)
FOUR_BITS = _shifted((-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), 4)
FIVE_BITS = _shifted(
    (
        *(-126, -114, -103, -92, -83, -74, -65, -57, -50, -43, -36, -30, -24, -18, -12, -6),
        *(-1, 5, 11, 17, 23, 29, 36, 43, 51, 59, 68, 77, 87, 97, 109, 121),
    ),
    2,
)
SIX_BITS = _shifted(
    (
        *(-127, -121, -115, -109, -104, -98, -93, -88, -84, -79, -74, -70, -66, -62, -58, -54),
        *(-51, -47, -44, -40, -37, -34, -31, -28, -25, -22, -19, -16, -13, -11, -8, -5),
        *(-2, 0, 3, 6, 9, 12, 14, 17, 20, 23, 27, 30, 33, 36, 40, 44),
        *(47, 51, 55, 59, 63, 68, 72, 77, 82, 87, 92, 98, 103, 109, 115, 121),
    ),
    1,
)


@cache
def _cells(values: tuple[int, ...]) -> tuple[np.float32, np.float32, np.ndarray[Any, np.dtype[np.int32]]]:
    """(offset, end, cells): x lies in cell int(x + offset), from 0 to end.

    A cell holds the value next to its lower end in bits 0 to 7, the one next to its upper end in bits 8 to 15, and the
    index of the former above. Values are two or more apart, so no third one is next to anything in a cell, which is a
    little wider than 1: x + offset is rounded.
    """
    middles = (np.array(values[:-1]) + np.array(values[1:])) / 2
    edges = np.arange(CELLS) + values[0] - MARGIN
    low, high = np.searchsorted(middles, edges - 0.01), np.searchsorted(middles, edges + 1.01)
    ordered = np.array(values)
    cells = ordered[low] & 0xFF | (ordered[high] & 0xFF) << 8 | low << 16
    return F32(MARGIN - values[0]), F32(values[-1] - values[0] + 2 * MARGIN), cells.astype(I32)


@cache
def value_near(values: tuple[int, ...]) -> Callable[[Any], Any]:
    """The kernel near(x): the value nearest to a float32, as a float32."""
    offset, end, cells = _cells(values)

    @kernel
    def near(x: Float) -> Float:
        cell = cells[I32(min(max(x + offset, ZERO), end)) & (CELLS - 1)]
        low, high = signed_byte(cell, 0), signed_byte(cell, 1)
        return low if x - low < high - x else high

    return near


@cache
def index_near(table: Table, values: tuple[int, ...]) -> Callable[[Any], Any]:
    """The kernel near(x): the index (int32) and the value (float32) nearest to x.

    They are what the reference takes where x is far off or NaN.
    """
    offset, end, cells = _cells(values)
    last = F32(table.end) if math.isinf(table.end) else np.nextafter(F32(table.end), ZERO)
    if_nan, value_if_nan = I32(table.if_nan), F32(values[table.if_nan])
    first, lowest = I32(0), F32(values[0])

    @kernel
    def near(x: Float) -> tuple[Int, Float]:
        cell = cells[I32(min(max(x + offset, ZERO), end)) & (CELLS - 1)]
        low, high = signed_byte(cell, 0), signed_byte(cell, 1)
        index = I32(cell >> I32(16))
        to_low, to_first, to_nan = (x - low < high - x) | (low == high), x > last, x != x
        index, value = index if to_low else I32(index + I32(1)), low if to_low else high
        index, value = first if to_first else index, lowest if to_first else value
        return if_nan if to_nan else index, value_if_nan if to_nan else value

    return near


@kernel
def signed_byte(packed: Int, which: Int) -> Float:
    """A signed byte of an int32, the lowest being 0, as float32."""
    return F32(I32(I32(packed << I32(24 - 8 * which)) >> I32(24)))
