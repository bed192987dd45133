"""Y += A X for float32 and float64, in one fixed order of sums: what error feedback spends its time with.

Every number of Y takes its products one after the other, in the order of the columns of A, each by a fused
multiply-add, which is rounded once. So the result is the same on any machine, whatever the vectors, the tiles or the
threads are.

X and Y have rows of equal length, which are spread over vectors; in rounding, such a row holds one column of many rows
of weights. Four rows of Y take four rows of X at a time, so that what is loaded is used four times. A tile of X stays
in the first cache while all of Y passes.
"""

from __future__ import annotations

from quantrecipe.core.bits import place
from quantrecipe.core.jit import Instruction, disjoint_kernel
from quantrecipe.core.scalars import Floats, Int

__all__ = ["add_product", "fma"]

fma = Instruction("fma")

TILE = 64
"""Rows of X that are used together: with 128 columns 32 KiB, which the first cache of today's processors has."""


@disjoint_kernel
def _four_by_four(a: Floats, at: Int, per_row: Int, per_column: Int, x: Floats, y: Floats) -> None:
    """y (4, n) += the 4 × 4 numbers of a times x (4, n)."""
    at = place(at)
    a00, a01 = a[at], a[at + per_column]
    a02, a03 = a[at + 2 * per_column], a[at + 3 * per_column]
    at += per_row
    a10, a11 = a[at], a[at + per_column]
    a12, a13 = a[at + 2 * per_column], a[at + 3 * per_column]
    at += per_row
    a20, a21 = a[at], a[at + per_column]
    a22, a23 = a[at + 2 * per_column], a[at + 3 * per_column]
    at += per_row
    a30, a31 = a[at], a[at + per_column]
    a32, a33 = a[at + 2 * per_column], a[at + 3 * per_column]
    for r in range(x.shape[1]):
        x0, x1, x2, x3 = x[0, r], x[1, r], x[2, r], x[3, r]
        y[0, r] = fma(a03, x3, fma(a02, x2, fma(a01, x1, fma(a00, x0, y[0, r]))))
        y[1, r] = fma(a13, x3, fma(a12, x2, fma(a11, x1, fma(a10, x0, y[1, r]))))
        y[2, r] = fma(a23, x3, fma(a22, x2, fma(a21, x1, fma(a20, x0, y[2, r]))))
        y[3, r] = fma(a33, x3, fma(a32, x2, fma(a31, x1, fma(a30, x0, y[3, r]))))


@disjoint_kernel
def _one_by_one(a: Floats, at: Int, x: Floats, y: Floats) -> None:
    factor = a[place(at)]
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@disjoint_kernel
def add_product(a: Floats, at: Int, per_row: Int, per_column: Int, x: Floats, y: Floats) -> None:
    """y (m, n) += A x (j, n), where A's number (i, j) is a[at + i * per_row + j * per_column]; a is flat."""
    rows, columns = y.shape[0], x.shape[0]
    for first in range(0, columns, TILE):
        last = min(first + TILE, columns)
        fours = first + (last - first) // 4 * 4
        for i in range(0, rows // 4 * 4, 4):
            for j in range(first, fours, 4):
                _four_by_four(
                    a, at + i * per_row + j * per_column, per_row, per_column, x[j : j + 4], y[i : i + 4]
                )
            for j in range(fours, last):
                for m in range(4):
                    _one_by_one(a, at + (i + m) * per_row + j * per_column, x[j], y[i + m])
        for i in range(rows // 4 * 4, rows):
            for j in range(first, last):
                _one_by_one(a, at + i * per_row + j * per_column, x[j], y[i])
