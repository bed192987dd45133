"""Products with the factor N, in one fixed order of sums: what error feedback spends its time with.

Every number of a product takes its terms one after the other, in the order of the columns of the factor that is in
front, each by a fused multiply-add, which is rounded once. So the result is the same on any machine, whatever the
vectors, the tiles or the threads are.

    strips  N is upper triangular, and kept in strips of `STRIP` columns, one after the other in memory. Strip s has the
            rows 0 … (s + 1) STRIP - 1, so it ends with the diagonal: row after row, STRIP numbers each. What is beyond
            the last column is zero
    x, y    have rows of equal length, a multiple of `LANES`: such a row holds one column of many rows of weights, which
            are spread over vectors

Tiles of y stay in registers while x passes (see `core/tile_code.py`). Of x, as many rows are used together as the
second cache has room for.
"""

from __future__ import annotations

from quantrecipe.core.jit import Instruction, disjoint_kernel, kernel
from quantrecipe.core.scalars import Floats, Int

__all__ = ["LANES", "STRIP", "add_across", "add_down", "add_product", "fma", "strips_size", "where"]

fma = Instruction("fma")
add_tile = Instruction("add_tile")

STRIP = 16
"""Columns of a strip, and rows of y in a tile."""
LANES = 32
"""Numbers of each row of a tile."""
TOGETHER = 256
"""Rows of x that are used together: with 256 columns 256 KiB, which the second cache of today's processors has."""


def strips_size(k: int) -> int:
    """Numbers in the strips of k columns."""
    count = -(-k // STRIP)
    return STRIP * STRIP * count * (count + 1) // 2


@kernel
def where(row: Int, column: Int) -> Int:
    """The place of a number of N in the strips: row ≤ column, or at least not beyond the end of its strip."""
    strip = column // STRIP
    return STRIP * STRIP * (strip * (strip + 1) // 2) + row * STRIP + column % STRIP


@disjoint_kernel
def _one_by_one(factor: Floats, x: Floats, y: Floats) -> None:
    for r in range(x.size):
        y[r] = fma(factor, x[r], y[r])


@disjoint_kernel
def add_down(strips: Floats, row: Int, x: Floats, column: Int, y: Floats) -> None:
    """y (m, n) += N' x (b, n): y[i] takes x[j] N[row + j, column + i] of all j, where that isn't below the diagonal."""
    (b, n), m = x.shape, y.shape[0]
    for first in range(0, b, TOGETHER):
        i = 0
        while i < m:
            strip = (column + i) // STRIP
            count = min(first + TOGETHER, b, (strip + 1) * STRIP - row) - first
            if (column + i) % STRIP == 0 and i + STRIP <= m:
                if count > 0:
                    for r in range(0, n, LANES):
                        add_tile(
                            strips, where(row + first, column + i), 1, STRIP,
                            x, first * n + r, n, count, y, i * n + r, n,
                        )  # fmt: skip
                i += STRIP
            else:
                for j in range(first, first + count):
                    _one_by_one(strips[where(row + j, column + i)], x[j], y[i])
                i += 1


@disjoint_kernel
def add_across(strips: Floats, column: Int, x: Floats, y: Floats) -> None:
    """y (m, n) += N x (b, n), of the first m rows: y[i] takes N[i, column + j] x[j] of all j where that isn't below it.

    column: a multiple of STRIP
    """
    (b, n), m = x.shape, y.shape[0]
    for first in range(0, b, TOGETHER):
        last = min(first + TOGETHER, b)
        for i in range(0, min(m, column + last), STRIP):
            begin = max(first, i - column)
            if i + STRIP <= m and last % STRIP == 0:
                for r in range(0, n, LANES):
                    for j in range(begin, last, STRIP):
                        add_tile(
                            strips, where(i, column + j), STRIP, 1, x, j * n + r, n, STRIP, y, i * n + r, n
                        )
            else:
                for row in range(i, min(i + STRIP, m)):
                    for j in range(max(begin, row - column), last):
                        _one_by_one(strips[where(row, column + j)], x[j], y[row])


@disjoint_kernel
def add_product(a: Floats, x: Floats, y: Floats) -> None:
    """y (m, n) += a (m, b) x (b, n), where m is a multiple of STRIP; of the numbers' type, n fills whole tiles."""
    (b, n), lanes = x.shape, LANES * 4 // y.itemsize
    for i in range(0, y.shape[0], STRIP):
        for r in range(0, n, lanes):
            add_tile(a, i * b, b, 1, x, r, n, b, y, i * n + r, n)
