"""Rounding groups of weights to a table's values with a scale that is settled, and fitting the scale above it anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.scalars import U8

from quantrecipe_ik.core.tables import Table, index_near

__all__ = ["add_products", "pack_five_bits", "pack_three_bits", "pack_two_bits", "round_group"]


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


@kernel
def pack_five_bits(indices: Any, to: Any, lower: Any, fifth: Any) -> None:
    """256 indices → 128 bytes of lower bits from `lower` on, 32 bytes of fifth bits from `fifth` on, set to 0 before.

    to[lower + 32 p + i] holds weights 64 p + i and 64 p + 32 + i; bit g of to[fifth + i] is of weight 32 g + i.
    """
    lower, fifth, length = place(lower), place(fifth), trips(32, to)
    for p in range(4):
        for i in range(length):
            low, high = indices[64 * p + i], indices[64 * p + 32 + i]
            to[lower + 32 * p + i] = (low & U8(15)) | U8(high << U8(4))
            bits = (low >> U8(4)) | U8((high >> U8(4)) << U8(1))
            to[fifth + i] |= U8(bits << U8(2 * p))


@kernel
def pack_two_bits(indices: Any, to: Any, at: Any) -> None:
    """256 indices → 64 bytes from `at` on: bits 2 p and 2 p + 1 of to[32 h + i] are of weight 128 h + 32 p + i."""
    at, length = place(at), trips(32, to)
    for h in range(2):
        for i in range(length):
            q0, q1 = indices[128 * h + i] & U8(3), indices[128 * h + 32 + i] & U8(3)
            q2, q3 = indices[128 * h + 64 + i] & U8(3), indices[128 * h + 96 + i] & U8(3)
            to[at + 32 * h + i] = q0 | U8(q1 << U8(2)) | U8(q2 << U8(4)) | U8(q3 << U8(6))


@kernel
def pack_three_bits(indices: Any, to: Any, lower: Any, third: Any) -> None:
    """256 indices → 64 bytes of lower bits from `lower` on, as for two bits; 32 of third bits from `third` on.

    Bit g of to[third + i] is of weight 32 g + i.
    """
    pack_two_bits(indices, to, lower)
    third, length = place(third), trips(32, to)
    for i in range(length):
        bits = U8(0)
        for g in range(8):
            bits |= U8((indices[32 * g + i] >> U8(2)) << U8(g))
        to[third + i] = bits
