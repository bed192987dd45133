"""The nearest point to each of many wishes: all points are tried, or those of the cells around it (see `cells.py`).

A unit of columns is one choice, or a few: points with signs of their own stand alone, and others are chosen for eight
columns, since signs are stored by eights. To miss x by e costs e G eᵀ. In units of the scale, t = x / scale - shift,
the nearest point is the p with the least

    p G pᵀ - 2 (G t) · p                of points that are signed
    Σ v_i p_i² - 2 Σ v_i |t_i| p_i      of others, v being the diagonal of G

So of others only the diagonal counts, as importance does in ggml's search, and signs are those of t.

Where an even number of signs is stored, and t has an odd one, the weight that it costs least is taken with the other
sign.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.lanes import select
from quantrecipe.core.scalars import I32, INF, TWO, U8, ZERO, Bytes, Float, Floats, Int, Ints, Tables
from quantrecipe.encoders.feedback.cells import CELLS, LANES
from quantrecipe.encoders.feedback.products import fma

__all__ = ["CELLS_OF", "find_nearest", "new_room"]

CELLS_OF = (
    "Tuple((Array(float32, 3, 'C', True), Array(int32, 2, 'C', True), Array(int64, 1, 'C', True), "
    "Array(float32, 3, 'C', True)))"
)
"""The signature of `Cells`."""


@disjoint_kernel
def _wish(
    i: Int, x: Floats, scale: Floats, v: Float, t: Floats, signs: Bytes, odd: Bytes, least: Floats, least_at: Ints
) -> None:  # fmt: skip
    """Weight i of an eight: t = |x| / scale, its sign, and whether it is the one whose sign costs least so far."""
    for r in range(x.size):
        y = select(scale[r] != ZERO, x[r] / scale[r], ZERO)
        t[r] = abs(y)
        negative = U8(y < ZERO)
        signs[r] = U8(signs[r] | U8(negative << U8(i)))
        odd[r] = U8(odd[r] ^ negative)
        cost = v * abs(y) * abs(y)
        cheaper = cost < least[r]
        least[r] = select(cheaper, cost, least[r])
        least_at[r] = select(cheaper, I32(i), least_at[r])


@disjoint_kernel
def _wish_signed(x: Floats, scale: Floats, shift: Floats, t: Floats) -> None:
    """The same where points have signs: t = x / scale - shift."""
    for r in range(x.size):
        t[r] = select(scale[r] != ZERO, x[r] / scale[r], ZERO) - shift[r]


@disjoint_kernel
def _flip(i: Int, t: Floats, signs: Bytes, odd: Bytes, least_at: Ints) -> None:
    for r in range(t.size):
        flipped = (odd[r] == U8(1)) & (least_at[r] == I32(i))
        t[r] = select(flipped, -t[r], t[r])
        signs[r] = select(flipped, U8(signs[r] ^ U8(1 << i)), signs[r])


@disjoint_kernel
def _take(factor: Float, t: Floats, y: Floats) -> None:
    for r in range(y.size):
        y[r] = factor * t[r]


@disjoint_kernel
def _add(factor: Float, t: Floats, y: Floats) -> None:
    for r in range(y.size):
        y[r] = fma(factor, t[r], y[r])


@disjoint_kernel
def _try_two(p: Int, even: Float, a: Float, b: Float, y: Floats, least: Floats, found: Ints) -> None:
    for r in range(least.size):
        cost = fma(b, y[1, r], fma(a, y[0, r], even))
        better = cost < least[r]
        least[r] = select(better, cost, least[r])
        found[r] = select(better, I32(p), found[r])


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


@kernel
def _try_all(
    g: Floats, begin: Int, points: Floats, signed: Int, y: Floats, least: Floats, found: Ints
) -> None:
    """The nearest of all points, for the weights from `begin` of the unit on; y: what they want, times G."""
    size = points.shape[1]
    of = np.empty(size, np.float32)
    least[:], found[:] = INF, I32(0)
    for p in range(points.shape[0]):
        square = ZERO
        for i in range(size):
            of[i] = -TWO * points[p, i]
            square = fma(g[begin + i, begin + i] * points[p, i], points[p, i], square)
            if signed:
                for j in range(i):
                    square = fma(TWO * g[begin + i, begin + j] * points[p, i], points[p, j], square)
        if size == 2:
            _try_two(p, square, of[0], of[1], y, least, found)
        elif size == 4:
            _try_four(p, square, of[0], of[1], of[2], of[3], y, least, found)
        else:
            _try_eight(p, square, of, y, least, found)


@disjoint_kernel
def _squares(g: Floats, begin: Int, points: Floats, numbers: Ints, signed: Int, squares: Floats) -> None:
    """p G pᵀ of each point; infinite for what is none."""
    size = points.shape[1]
    for b in range(points.shape[0]):
        for lane in range(LANES):
            squares[b, lane] = select(numbers[b, lane] >= I32(0), ZERO, INF)
        for i in range(size):
            v = g[begin + i, begin + i]
            for lane in range(LANES):
                squares[b, lane] = fma(v * points[b, i, lane], points[b, i, lane], squares[b, lane])
            if signed:
                for j in range(i):
                    h = TWO * g[begin + i, begin + j]
                    for lane in range(LANES):
                        squares[b, lane] = fma(h * points[b, i, lane], points[b, j, lane], squares[b, lane])


@disjoint_kernel
def _scan_four(
    points: Floats, squares: Floats, first: Int, last: Int, y: Floats, least: Floats, at: Ints
) -> None:
    """The best of the blocks from first to last in each lane; y: -2 times what a row wants, times G."""
    a, b, c, d = y[0], y[1], y[2], y[3]
    for block in range(first, last):
        for lane in range(LANES):
            cost = fma(b, points[block, 1, lane], fma(a, points[block, 0, lane], squares[block, lane]))
            cost = fma(d, points[block, 3, lane], fma(c, points[block, 2, lane], cost))
            better = cost < least[lane]
            least[lane] = select(better, cost, least[lane])
            at[lane] = select(better, I32(block), at[lane])


@disjoint_kernel
def _scan_eight(
    points: Floats, squares: Floats, first: Int, last: Int, y: Floats, least: Floats, at: Ints
) -> None:
    a, b, c, d, e, f, g, h = y[0], y[1], y[2], y[3], y[4], y[5], y[6], y[7]
    for block in range(first, last):
        for lane in range(LANES):
            cost = fma(b, points[block, 1, lane], fma(a, points[block, 0, lane], squares[block, lane]))
            cost = fma(d, points[block, 3, lane], fma(c, points[block, 2, lane], cost))
            cost = fma(f, points[block, 5, lane], fma(e, points[block, 4, lane], cost))
            cost = fma(h, points[block, 7, lane], fma(g, points[block, 6, lane], cost))
            better = cost < least[lane]
            least[lane] = select(better, cost, least[lane])
            at[lane] = select(better, I32(block), at[lane])


@kernel
def _plan(bounds: Floats, book: Int, g: Floats, begin: Int, t: Floats, r: Int, reach: Int, cross: Floats, step: Ints,
    visits: Ints) -> None:  # fmt: skip
    """visits[: 2 ** reach]: the cells to look into for row r.

    cross, step: for each coordinate what it costs to cross the nearest bound, and how far that is in the order of cells
    """
    (size, last), own, unit = bounds.shape[1:], 0, 1
    for i in range(size):
        wanted, bin_ = t[begin + i, r], 0
        for b in range(last):
            bin_ += 1 if wanted > bounds[book, i, b] else 0
        below = wanted - bounds[book, i, bin_ - 1] if bin_ > 0 else INF
        above = bounds[book, i, bin_] - wanted if bin_ < last else INF
        cross[i] = g[begin + i, begin + i] * min(below, above) * min(below, above)
        # There is one on at least one side, also where a weight wants what isn't a number.
        step[i] = -unit if bin_ == last or (bin_ > 0 and not above < below) else unit
        own += bin_ * unit
        unit *= last + 1
    visits[0] = own
    known, crossed = 1, 0
    for _ in range(reach):
        cheapest = -1
        for i in range(size):
            if crossed >> i & 1 == 0 and (cheapest < 0 or cross[i] < cross[cheapest]):
                cheapest = i
        crossed |= 1 << cheapest
        for v in range(known):
            visits[known + v] = visits[v] + step[cheapest]
        known *= 2


@kernel
def _try_cells(
    g: Floats, begin: Int, cells: Tables, reach: Int, signed: Int, books: Bytes, t: Floats, y: Floats, squares: Floats,
    visits: Ints, found: Ints,
) -> None:  # fmt: skip
    """As `_try_all`, but only what lies in the cells around, and only of the book that a row has."""
    points, numbers, starts, bounds = cells
    size = points.shape[1]
    of, cross, step = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.int64)
    least, at = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
    _squares(g, begin, points, numbers, signed, squares)
    for r in range(found.size):
        book = place(books[r])
        _plan(bounds, book, g, begin, t, r, reach, cross, step, visits)
        for i in range(size):
            of[i] = -TWO * y[begin + i, r]
        least[:], at[:] = INF, I32(-1)
        for v in range(1 << reach):
            cell = book * CELLS + visits[v]
            if size == 4:
                _scan_four(points, squares, starts[cell], starts[cell + 1], of, least, at)
            else:
                _scan_eight(points, squares, starts[cell], starts[cell + 1], of, least, at)
        best, number = INF, I32(0)
        for lane in range(LANES):
            if least[lane] < best:
                best, number = least[lane], numbers[at[lane], lane]
        found[r] = number


@kernel
def new_room(unit: Int, n: Int, cells: Tables, reach: Int) -> Tables:
    """Room for `find_nearest`: wishes, wishes times G, costs, which costs least, odd, squares of points, visits."""
    return (
        np.empty((unit, n), np.float32),
        np.empty((unit, n), np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.int32),
        np.empty(n, np.uint8),
        np.empty((cells[0].shape[0], LANES), np.float32),
        np.empty(1 << reach, np.int64),
    )


@kernel
def find_nearest(
    x: Floats, g: Floats, scale: Floats, shift: Floats, books: Bytes, points: Floats, cells: Tables, reach: Int,
    even: Int, signed: Int, room: Tables, found: Ints, signs: Bytes,
) -> None:  # fmt: skip
    """The nearest points to x (unit, n), to found (unit / size, n), and signs (n,).

    g: G of the unit; scale, shift, books: of each row; cells, reach: see `cells.py`
    """
    t, y, least, least_at, odd, squares, visits = room
    unit, size = x.shape[0], points.shape[1]
    signs[:], odd[:], least[:], least_at[:] = U8(0), U8(0), INF, I32(0)
    for i in range(unit):
        if signed:
            _wish_signed(x[i], scale, shift, t[i])
        else:
            _wish(i, x[i], scale, g[i, i], t[i], signs, odd, least, least_at)
    if even:
        for i in range(unit):
            _flip(i, t[i], signs, odd, least_at)
    for i in range(unit):
        _take(g[i, i], t[i], y[i])
        if signed:
            for j in range(unit):
                if j != i:
                    _add(g[i, j], t[j], y[i])
    for part in range(unit // size):
        begin = part * size
        if reach:
            _try_cells(g, begin, cells, reach, signed, books, t, y, squares, visits, found[part])
        else:
            _try_all(g, begin, points, signed, y[begin : begin + size], least, found[part])
