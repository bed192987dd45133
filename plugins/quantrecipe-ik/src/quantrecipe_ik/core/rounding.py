"""Rounding groups of weights to a table's values with a scale that is settled, and fitting the scale above it anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.scalars import U8

from quantrecipe_ik.core.tables import Table, index_near

__all__ = ["add_products", "round_group"]


@cache
def round_group(table: Table, n: int) -> Callable[..., None]:
    """The kernel round_to(x, at, iscale, shifted, indices, to) for n weights.

    indices[to:] = those of the values nearest to iscale * x[at:].
    """
    near, near_shifted = index_near(table, table.plain), index_near(table, table.shifted)

    @kernel
    def round_to(x: Any, at: Any, iscale: Any, shifted: Any, indices: Any, to: Any) -> None:
        at, to, length = place(at), place(to), trips(n, indices)
        if shifted:
            for i in range(length):
                index, _ = near_shifted(iscale * x[at + i])
                indices[to + i] = U8(index)
        else:
            for i in range(length):
                index, _ = near(iscale * x[at + i])
                indices[to + i] = U8(index)

    return round_to


@kernel
def add_products(
    x: Any,
    weights: Any,
    at: Any,
    n: Any,
    values: Any,
    first: Any,
    indices: Any,
    to: Any,
    level: Any,
    sums: Any,
) -> None:
    """sums[0] += ∑ w q x and sums[1] += ∑ w q², in order, with q = level * values[first + index] of n weights."""
    at, to, first = place(at), place(to), place(first)
    sxl, sl2 = sums[0], sums[1]
    for i in range(n):
        w, v = weights[at + i], x[at + i]
        q = values[first + indices[to + i]] * level
        sxl += w * q * v
        sl2 += w * q * q
    sums[0], sums[1] = sxl, sl2
