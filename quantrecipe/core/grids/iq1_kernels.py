"""Super-blocks of which every eight weights are a point of three values: the encoder of IQ1_S and IQ1_M.

    x ≈ scale * (q - 1 ± 0.125), q from 0 to 2, eight q together a point of the grid

A group's weights are sorted, and all ways to cut them in three are tried, each with both shifts. (That is `cut`, which
a format brings along: IQ1_S has one shift for a group, IQ1_M one for every eight.) The eights that come of the best cut
are taken to points of the grid, and the scale is fitted to these.

ggml: quantize_row_iq1_s_impl, quantize_row_iq1_m_impl.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from quantrecipe.core.bits import aligned
from quantrecipe.core.grids.grid import grid_kernels
from quantrecipe.core.grids.iq1_cuts import rank_groups, split_codes
from quantrecipe.core.grids.iq1_points import SHIFT, fit_points, to_points
from quantrecipe.core.grids.points_of_eight import EIGHT, ENCODE_EIGHTS, TERMS, eights_tables, eights_values
from quantrecipe.core.jit import kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.kernel_format import Kernels, PointKernels
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    X,
    load_groups,
    load_importance,
    sums_of_squares,
    weigh_by_size,
    weigh_by_square,
)  # fmt: skip
from quantrecipe.core.scalars import F32, I32, TWO, ZERO, Bytes, Float, Floats, Int, Tables

__all__ = ["LOWEST", "STEPS", "VALUES", "better_cut", "iq1_kernels"]

LOWEST = -F32(np.finfo(np.float32).max)
"""ggml: what a cut has to catch more than."""
STEPS = F32(15)
"""The largest scale is d * 15: scales are odd numbers, 2 * scale + 1."""
VALUES = (-1, 0, 1)


@kernel
def better_cut(
    sxl: Float, sl2: Float, choice: Float, caught: Float, scale: Float, chosen: Float
) -> tuple[Float, Float, Float]:
    """(caught, scale, chosen), or what a cut with these sums, w x q and w q q, has, if it catches more."""
    better = (sl2 > ZERO) & (sxl * sxl > caught * sl2)
    fitting = sxl / sl2
    return (
        fitting * sxl if better else caught,
        fitting if better else scale,
        choice if better else chosen,
    )


def iq1_kernels(
    *,
    n: int,
    block_bytes: int,
    epsilon: float,
    no_code: int,
    cut: Callable[..., None],
    pack: Callable[..., None],
    decode: Callable[..., None],
    needs_importance: bool,
    grid: PointKernels,
) -> Kernels:
    """The kernels of a format with groups of n weights.

    epsilon: groups without a weight of this size become zeros, and their eights have no_code
    cut:     the kernel cut(s, ranks, best): the best cut of each group. best: three rows of LANES: what is caught; the
             scale; 256 * low + 4 * high + 2 if the shift of the group's first half is negative + 1 if that of its
             second half is, less than 0 where no cut is any good. See `split_codes` for low and high
    pack:    the kernel pack(index, s, scale, shift, codes, first, to, at): write the super-block at to[at:], whose
             groups are in lanes from `first` on
    decode:  a kernel of signature DECODE_EIGHTS
    grid:    the second half of encoding
    """
    groups, parts, super_blocks = SUPERBLOCK // n, n // EIGHT, LANES * n // SUPERBLOCK
    load, load_weights, weigh = load_groups(n), load_importance(n), weigh_by_size(n)
    weigh_plain = weigh_by_square(n)
    rank, split, move_to_points, fit = rank_groups(n), split_codes(n), to_points(n), fit_points(n)
    least, nothing = F32(epsilon), I32(no_code)

    @kernel
    def weigh_groups(x: Floats, importance: Floats, start: Int, count: Int, s: Floats) -> None:
        filled = count * groups
        load(x, start * groups, filled, s)
        if importance.size:
            squares, sigma = np.empty(super_blocks, np.float32), np.zeros(LANES, np.float32)
            load_weights(importance, start * groups, filled, s)
            sums_of_squares(x, start, count, SUPERBLOCK, squares)
            for j in range(LANES):
                sigma[j] = TWO * squares[min(j, filled - 1) // groups] / F32(SUPERBLOCK)
            weigh(sigma, s)
        else:
            weigh_plain(s)

    @kernel(ENCODE_EIGHTS)
    def encode(book: Tables, rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, terms = aligned(WORKSPACE), aligned(TERMS * LANES)
        ranks, codes = np.zeros(n * LANES, np.int32), np.zeros(parts * LANES, np.int32)
        low, high, mirror = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32), np.zeros(LANES, np.int32)
        best, scale = np.empty(3 * LANES, np.float32), np.zeros(LANES, np.float32)
        shift, moved = np.zeros(parts * LANES, np.float32), np.zeros(LANES, np.int32)
        blocks = x.size // SUPERBLOCK
        for start in range(0, blocks, super_blocks):
            count = min(super_blocks, blocks - start)
            filled = count * groups
            weigh_groups(x, importance, start, count, s)
            rank(s, ranks)
            cut(s, ranks, best)
            for j in range(LANES):
                choice, mirrored = np.int64(best[2 * LANES + j]), best[LANES + j] < ZERO
                scale[j] = abs(best[LANES + j])
                low[j], high[j], mirror[j] = I32(choice >> 8), I32((choice >> 2) & 63), I32(mirrored)
                for k in range(parts):
                    bit = (choice >> (1 - 2 * k // parts)) & 1
                    shift[k * LANES + j] = SHIFT if (bit == 0) != mirrored else -SHIFT
            split(ranks, low, high, mirror, codes)
            move_to_points(s, filled, scale, shift, codes, moved, terms, book)
            fit(s, shift, codes, moved, best, scale)
            # A choice below zero is no choice; what isn't a number is neither, and ggml aborts.
            for j in range(filled):
                largest = ZERO
                for i in range(n):
                    largest = max(largest, abs(s[X + i * LANES + j]))
                if largest < least or low[j] < 0:
                    scale[j] = ZERO
                    for k in range(parts):
                        shift[k * LANES + j], codes[k * LANES + j] = SHIFT, nothing
                scale[j] = scale[j] if scale[j] > ZERO else ZERO
            for b in range(count):
                pack(book[0], s, scale, shift, codes, b * groups, to, (start + b) * block_bytes)

    return grid_kernels(
        tables=partial(eights_tables, "iq1", distances=3), encode=encode,
        values=partial(eights_values, "iq1", VALUES), decode=decode, needs_importance=needs_importance, grid=grid,
    )  # fmt: skip
