"""Super-blocks of which every four weights are a point of a grid: the kernels of IQ3_XXS and IQ3_S.

    f16 d, then the points of every four weights, the signs of every eight, a 4-bit scale for every 32

Where these lie in the bytes, a format says with six small kernels. at: where the super-block begins, whose bytes were
set to 0; g: the group; slot: where its points and signs go, which is g but in IQ3_S:

    put_point  (to, at, g, slot, f, point): the f-th four of the group
    put_signs  (to, at, g, slot, e, signs): the e-th eight of the group
    put_scale  (to, at, g, scale)
    get_point  (source, at, g, f) → point
    get_signs  (source, at, g, e) → signs
    get_scale  (source, at, g) → what d is multiplied by, float32

ggml: quantize_row_iq3_xxs_impl, quantize_row_iq3_s_impl.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from quantrecipe.core.grids.grid import grid_kernels
from quantrecipe.core.grids.iq3_search import FOURS, GROUP, fours_room, fours_search
from quantrecipe.core.grids.iq3_signs import take_signs, weigh
from quantrecipe.core.grids.ksigns import SIGNS
from quantrecipe.core.grids.points_of_eight import EIGHT, odd_step
from quantrecipe.core.grids.points_of_four import (
    DECODE_FOURS,
    ENCODE_FOURS,
    fours_tables,
    fours_values,
    weigh_squares,
)
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import POINT_PUT, POINT_SCALES, kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.kernel_format import Kernels, PointKernels
from quantrecipe.core.scalars import F32, HALF, ONE, TWO, U8, ZERO, Bytes, Floats, Ints, Tables

__all__ = ["iq3_kernels"]

GROUPS, EIGHTS = SUPERBLOCK // GROUP, GROUP // EIGHT
STEPS, LAST = F32(31), 15
"""The largest scale is d * 31: scales are odd numbers, 2 * scale + 1."""
_weigh = weigh(GROUP)


def iq3_kernels(
    grid: str,
    *,
    block_bytes: int,
    values: tuple[int, ...],
    distances: int,
    even: bool,
    epsilon: float,
    steps: int,
    keep_points: bool,
    raised: float,
    zeros_keep_points: bool,
    smallest_scale: float,
    put_point: Callable[..., None],
    put_signs: Callable[..., None],
    put_scale: Callable[..., None],
    get_point: Callable[..., Any],
    get_signs: Callable[..., Any],
    get_scale: Callable[..., Any],
) -> Kernels:
    """The kernels of a format whose points are in `core/grids/tables/GRID.grid`.

    values:      what the integers of a point stand for
    distances:   how many distances neighbours come from; see `load_grid`
    even:        of signs; see `take_signs`
    epsilon:     groups whose largest weight is below this become zeros
    steps, keep_points: see `fours_search`
    raised:      what is stored is d times this
    zeros_keep_points: a super-block whose scales are all 0 still has its points
    smallest_scale: what get_scale says of 0; of q it says 2 q + 1 times as much
    """
    search, find_signs = fours_search(steps, keep_points=keep_points), take_signs(GROUP, even=even)
    least, above, smallest = F32(epsilon), F32(raised), F32(smallest_scale)

    @kernel(ENCODE_FOURS)
    def encode(book: Tables, rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to, k = rows.reshape(rows.size), out.reshape(out.size), max(importance.size, 1)
        room, index = fours_room(), book[0]
        v, codes = room[0], room[6]
        scales, signs = np.empty(GROUPS, np.float32), np.empty(EIGHTS, np.uint8)
        for block in range(x.size // SUPERBLOCK):
            squares = ZERO
            for i in range(block * SUPERBLOCK, (block + 1) * SUPERBLOCK):
                squares += x[i] * x[i]
            at = block * block_bytes
            to[at : at + block_bytes] = U8(0)
            top, slot = ZERO, 0
            for g in range(GROUPS):
                first = block * SUPERBLOCK + g * GROUP
                if importance.size > 0:
                    _weigh(x, first, importance, first % k, TWO * squares / F32(SUPERBLOCK), v)
                else:
                    weigh_squares(x, first, v)
                largest = find_signs(x, first, v, signs)
                scales[g] = ZERO
                if largest < least:
                    continue
                scale = search(book, largest, room)
                flip = 255 if scale < ZERO else 0
                scales[g] = (
                    abs(scale) if abs(scale) > ZERO else ZERO
                )  # NaN, where weights overflow: ggml aborts
                top = scales[g] if scales[g] > top else top
                for f in range(FOURS):
                    put_point(to, at, g, slot, f, index[codes[f]])
                for e in range(EIGHTS):
                    put_signs(to, at, g, slot, e, signs[e] ^ flip)
                slot += 1
            if top == ZERO:
                if not zeros_keep_points:
                    to[at : at + block_bytes] = U8(0)
                continue
            d = top / STEPS
            put_half(to, at, d * above)
            for g in range(GROUPS):
                put_scale(to, at, g, odd_step(ONE / d, scales[g], LAST))

    @kernel(DECODE_FOURS)
    def decode(values: Floats, data: Bytes, rows: Floats) -> None:
        x, source = rows.reshape(rows.size), data.reshape(data.size)
        for block in range(x.size // SUPERBLOCK):
            at = block * block_bytes
            d = get_half(source, at)
            for g in range(GROUPS):
                scale = d * get_scale(source, at, g)
                for e in range(EIGHTS):
                    signs = get_signs(source, at, g, e)
                    first = block * SUPERBLOCK + g * GROUP + EIGHT * e
                    for f in range(2):
                        point = get_point(source, at, g, 2 * e + f)
                        for i in range(4):
                            x[first + 4 * f + i] = scale * values[point, i] * SIGNS[signs, 4 * f + i]

    @kernel(POINT_SCALES)
    def grid_scales(data: Bytes, scales: Floats) -> None:
        source, to = data.reshape(data.size), scales.reshape(scales.size)
        for block in range(to.size // GROUPS):
            at = block * block_bytes
            d = get_half(source, at)
            for g in range(GROUPS):
                to[block * GROUPS + g] = d * get_scale(source, at, g)

    @kernel(POINT_PUT)
    def grid_put(choices: Ints, signs: Bytes, data: Bytes) -> None:
        points, bits, to = choices.reshape(choices.size), signs.reshape(signs.size), data.reshape(data.size)
        kept = np.empty(GROUPS, np.int64)
        for block in range(to.size // block_bytes):
            at = block * block_bytes
            low, high = to[at], to[at + 1]  # d
            for g in range(GROUPS):
                kept[g] = np.int64((get_scale(to, at, g) / smallest - ONE) * HALF)
            to[at : at + block_bytes] = U8(0)
            to[at], to[at + 1] = low, high
            for g in range(GROUPS):
                put_scale(to, at, g, kept[g])
                for f in range(FOURS):
                    put_point(to, at, g, g, f, np.int64(points[(block * GROUPS + g) * FOURS + f]))
                for e in range(EIGHTS):
                    put_signs(to, at, g, g, e, np.int64(bits[(block * GROUPS + g) * EIGHTS + e]))

    return grid_kernels(
        tables=partial(fours_tables, grid, distances=distances), encode=encode,
        values=partial(fours_values, grid, values), decode=decode,
        grid=PointKernels(
            points=partial(fours_values, grid, values), group=GROUP, even=even, scales=grid_scales, put=grid_put
        ),
    )  # fmt: skip
