"""Encoding rows with a trellis type: a look around for the blocks' scales, then a long search for the points.

1. Each block of 32 weights is held against the best points of a few cells, as if its largest weight became a number of
   steps, with either sign where points have signs. The least squares fit to what was found is its scale.
2. The scales become levels times one scale of the row (`levels.py`).
3. With these, the points are searched for in many more cells, and in every book that there is.
4. The row's scale is fitted to what came out.

ik_llama.cpp takes the same steps, but its look around is as long as its search, and its neighbourhoods are the same for
all weights, whatever they count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.lanes import first_largest
from quantrecipe.core.scalars import F32, I32, ONE, U8, ZERO, Bytes, Float, Floats, Int, Ints, Tables

from quantrecipe_ik.core.scales import inverse, put_float
from quantrecipe_ik.core.trellis.blocks import BLOCK, add_sums, largest_in, squared_error, weigh
from quantrecipe_ik.core.trellis.generator import BOOKS, OFFSET
from quantrecipe_ik.core.trellis.levels import Levels
from quantrecipe_ik.core.trellis.search import nearest_points
from quantrecipe_ik.core.weighing import SUPERBLOCK

__all__ = ["ROW_BYTES", "Trellis", "encoder"]

EPSILON = F32(1e-16)
WORST = F32(1.5)
"""A block that loses so many times what the blocks of its row lose on average is worth more work."""
ROW_BYTES = 4
"""A row begins with f32 d."""
ENCODE = f"void({BOOKS}, Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), uint8[:,::1])"
"""What `Books.arrays` gives, rows, importance, out."""


@dataclass(frozen=True, kw_only=True)
class Trellis:
    """What a format's points are, and how they are searched for.

    count, size: how many points a book has, of how many weights
    bins:        of each coordinate, whose combinations are the cells
    offsets:     of the books that a block may choose from
    positive:    points have no signs; the weights' are stored apart
    look, search, far: how far to reach (see `nearest_points`) when scales are looked for, when points are, and in the
                 worst blocks
    guesses:     what the largest weight of a block may become: (so much, but this share of so much that it is of the
                 row's largest weight if that is more), …
    second:      search with the scale of the second best guess, too
    more:        what else to multiply the factors of the worst blocks by
    raised:      by how much d is raised in the end
    """

    count: int
    size: int
    bins: int
    offsets: tuple[int, ...] = (OFFSET,)
    positive: bool = False
    look: tuple[int, ...]
    search: tuple[int, ...]
    far: tuple[int, ...]
    guesses: tuple[tuple[float, float], ...]
    second: bool = False
    more: tuple[float, ...]
    raised: float = 1.0


def encoder(
    what: Trellis, levels: Levels, pack: Callable[..., None], block_bytes: int
) -> Callable[..., None]:
    """The kernel encode(books, rows, importance, out); books are `Books.arrays`.

    pack(rows, levels, found, chosen, row, to, start) writes a row but for its d. levels, chosen (which book): of the
    blocks of all rows; found: the indices of all groups.
    """
    size, book_count = what.size, len(what.offsets)
    groups, cell_count, bound_count = BLOCK // size, what.bins**size + 1, size * (what.bins - 1)
    signs = (ONE,) if what.positive else (ONE, -ONE)
    guesses = tuple((F32(least), F32(most)) for least, most in what.guesses)
    what_positive, second_too = what.positive, what.second
    more_factors = tuple(F32(times) for times in what.more) or ()
    offsets, more = np.array(what.offsets, I32), F32(what.raised)
    look_near = nearest_points(size, what.bins, what.look)
    error, add = squared_error(size, positive=what.positive), add_sums(size, positive=what.positive)
    level_near, factor_of, next_level, fit_row = levels.near, levels.factor, levels.next, levels.fit

    @kernel
    def guess(x: Floats, k: Int, sign: Float, least: Float, most: Float, inverses: Floats) -> None:
        """What to multiply each block by; 0 for one without a weight to speak of."""
        for row in range(x.size // k):
            largest = largest_in(x, row * k, k)
            for b in range(row * k // BLOCK, (row + 1) * k // BLOCK):
                peak = largest_in(x, b * BLOCK, BLOCK)
                inverses[b] = ZERO if peak < EPSILON else sign * max(least, most * (peak / largest)) / peak

    @kernel
    def multiply(x: Floats, inverses: Floats, wanted: Floats) -> None:
        length = trips(BLOCK, x)
        for b in range(inverses.size):
            at = place(b * BLOCK)
            for i in range(length):
                wanted[at + i] = inverses[b] * x[at + i]

    @kernel
    def look_around(
        books: Tables, x: Floats, weights: Floats, k: Int,
        scales: Floats, others: Floats, sums: Floats, kept: Ints, chosen: Bytes,
    ) -> None:  # fmt: skip
        """Of the best guess at each block, in any book: scales, sums (∑ w x q, ∑ w q²), kept (the points), chosen.

        others: the scales of the second best.
        """
        points, indices, starts, bounds = books
        inverses, gains = np.empty(scales.size, np.float32), np.zeros(scales.size, np.float32)
        second = np.zeros(scales.size, np.float32)
        wanted, found, pair = np.empty_like(x), np.empty_like(kept), np.empty(2, np.float32)
        for least, most in guesses:
            for sign in signs:
                guess(x, k, sign, least, most, inverses)
                multiply(x, inverses, wanted)
                for book in range(book_count):
                    its_starts = starts[book * cell_count : (book + 1) * cell_count]
                    its_bounds = bounds[book * bound_count : (book + 1) * bound_count]
                    look_near(points, indices, its_starts, its_bounds, wanted, weights, found)
                    for b in range(scales.size):
                        pair[:] = ZERO
                        add(x, weights, b, ONE, found, offsets[book], pair)
                        gain = pair[0] * pair[0] / pair[1] if pair[1] > ZERO and inverses[b] != ZERO else ZERO
                        if gain > gains[b]:
                            second[b], others[b] = gains[b], scales[b]
                            gains[b], scales[b], chosen[b] = gain, pair[0] / pair[1], U8(book)
                            sums[2 * b], sums[2 * b + 1] = pair[0], pair[1]
                            for g in range(b * groups, (b + 1) * groups):
                                kept[g] = found[g]
                        elif gain > second[b]:
                            second[b], others[b] = gain, pair[0] / pair[1]

    def search(reach: tuple[int, ...]) -> Callable[..., None]:
        near = nearest_points(size, what.bins, reach)

        @kernel
        def search_points(
            books: Tables, x: Floats, weights: Floats, factors: Floats, levels: Ints,
            tried: Floats, tried_levels: Ints, losses: Floats, kept: Ints, chosen: Bytes,
        ) -> None:  # fmt: skip
            """Keep what the blocks with the tried factors, in any book, come to, where that loses less than before."""
            points, indices, starts, bounds = books
            wanted, found, inverses = np.empty_like(x), np.empty_like(kept), np.empty_like(factors)
            for b in range(factors.size):
                inverses[b] = inverse(tried[b])
            multiply(x, inverses, wanted)
            for book in range(book_count):
                its_starts = starts[book * cell_count : (book + 1) * cell_count]
                its_bounds = bounds[book * bound_count : (book + 1) * bound_count]
                near(points, indices, its_starts, its_bounds, wanted, weights, found)
                for b in range(factors.size):
                    loss = error(x, weights, b, tried[b], found, offsets[book])
                    if loss < losses[b]:
                        losses[b], chosen[b] = loss, U8(book)
                        factors[b], levels[b] = tried[b], tried_levels[b]
                        for g in range(b * groups, (b + 1) * groups):
                            kept[g] = found[g]

        return search_points

    search_points = search(what.search)
    search_far = search_points if what.far == what.search else search(what.far)

    @kernel
    def try_worst(
        books: Tables, x: Floats, weights: Floats, k: Int, ds: Floats,
        factors: Floats, levels: Ints, losses: Floats, kept: Ints, chosen: Bytes,
    ) -> None:  # fmt: skip
        """Try more factors on the blocks that lose most: with importance, few of them make most of a row's error."""
        blocks = k // BLOCK
        which, count = np.empty(factors.size, np.int64), 0
        for row in range(ds.size):
            total = ZERO
            for b in range(row * blocks, (row + 1) * blocks):
                total += losses[b]
            for b in range(row * blocks, (row + 1) * blocks):
                if ds[row] != ZERO and losses[b] * F32(blocks) > WORST * total:
                    which[count] = b
                    count += 1
        if count == 0 or len(more_factors) == 0:
            return
        its_x, its_weights = np.empty(count * BLOCK, np.float32), np.empty(count * BLOCK, np.float32)
        its_kept, its_chosen = np.empty(count * groups, np.int32), np.empty(count, np.uint8)
        its_factors, its_losses, tried, before = np.empty((4, count), np.float32)
        its_levels, tried_levels = np.empty((2, count), np.int32)
        for c in range(count):
            b = which[c]
            its_x[c * BLOCK : (c + 1) * BLOCK] = x[b * BLOCK : (b + 1) * BLOCK]
            its_weights[c * BLOCK : (c + 1) * BLOCK] = weights[b * BLOCK : (b + 1) * BLOCK]
            its_kept[c * groups : (c + 1) * groups] = kept[b * groups : (b + 1) * groups]
            its_chosen[c], its_losses[c] = chosen[b], losses[b]
            its_factors[c], its_levels[c] = factors[b], levels[b]
            before[c] = factor_of(levels[b])
        for times in more_factors:
            for c in range(count):
                tried_levels[c], factor = level_near(before[c] * times)
                tried[c] = ds[which[c] // blocks] * factor
            search_far(
                books, its_x, its_weights, its_factors, its_levels,
                tried, tried_levels, its_losses, its_kept, its_chosen,
            )  # fmt: skip
        for c in range(count):
            b = which[c]
            kept[b * groups : (b + 1) * groups] = its_kept[c * groups : (c + 1) * groups]
            chosen[b], losses[b] = its_chosen[c], its_losses[c]
            factors[b], levels[b] = its_factors[c], its_levels[c]

    @kernel(ENCODE)
    def encode(books: Tables, rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to, k = rows.reshape(rows.size).copy(), out.reshape(out.size), rows.shape[1]
        weights, kept = np.empty_like(x), np.zeros(x.size // size, np.int32)
        weigh(x, importance, weights)
        if what_positive:
            for i in range(x.size):
                x[i] = abs(x[i])
        blocks, row_bytes = k // BLOCK, ROW_BYTES + k // SUPERBLOCK * block_bytes
        count = x.size // BLOCK
        scales, others = np.zeros(count, np.float32), np.zeros(count, np.float32)
        factors, tried = np.zeros(count, np.float32), np.zeros(count, np.float32)
        levels, tried_levels = np.zeros(count, np.int32), np.zeros(count, np.int32)
        sums, losses = np.zeros(2 * count, np.float32), np.empty(count, np.float32)
        chosen = np.zeros(count, np.uint8)
        ds, pair = np.zeros(rows.shape[0], np.float32), np.empty(2, np.float32)
        look_around(books, x, weights, k, scales, others, sums, kept, chosen)
        for row in range(rows.shape[0]):
            first = row * blocks
            if first_largest(scales, first, blocks) != ZERO:
                ds[row] = fit_row(scales, sums, first, blocks)
            iscale = inverse(ds[row])
            for b in range(first, first + blocks):
                levels[b], factor = level_near(iscale * scales[b])
                factors[b] = ds[row] * factor
                losses[b] = error(x, weights, b, factors[b], kept, offsets[chosen[b]])
                tried_levels[b], factor = level_near(iscale * others[b])
                if tried_levels[b] == levels[b]:
                    tried_levels[b] = next_level(levels[b], iscale * scales[b])
                tried[b] = ds[row] * factor_of(tried_levels[b])
        search_points(books, x, weights, factors, levels, factors.copy(), levels, losses, kept, chosen)
        if second_too:
            search_points(books, x, weights, factors, levels, tried, tried_levels, losses, kept, chosen)
        try_worst(books, x, weights, k, ds, factors, levels, losses, kept, chosen)
        for row in range(rows.shape[0]):
            first, start = row * blocks, place(row * row_bytes)
            to[start : start + row_bytes] = U8(0)
            if ds[row] == ZERO:
                continue
            pair[:] = ZERO
            for b in range(first, first + blocks):
                add(x, weights, b, factor_of(levels[b]), kept, offsets[chosen[b]], pair)
            put_float(to, start, more * (pair[0] / pair[1]) if pair[1] > ZERO else ds[row])
            pack(rows, levels, kept, chosen, row, to, start)

    return encode
