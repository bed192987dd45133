"""Super-blocks of which every eight weights are a point of a grid: the kernels of IQ2_XXS, IQ2_XS and IQ2_S.

    f16 d, then the points, their signs, and a 4-bit scale for each group of 16 or 32 weights

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

Where these lie in the bytes, a format says with four small kernels: put_point, put_scale, get_point and get_scale.

ggml: quantize_row_iq2_xxs_impl, quantize_row_iq2_xs_impl, quantize_row_iq2_s_impl.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from quantrecipe.core.bits import aligned
from quantrecipe.core.grids.grid import grid_kernels
from quantrecipe.core.grids.iq2_search import eights_refit, eights_search
from quantrecipe.core.grids.iq2_signs import load_signed
from quantrecipe.core.grids.ksigns import SIGNS
from quantrecipe.core.grids.points_of_eight import (
    DECODE_EIGHTS,
    EIGHT,
    ENCODE_EIGHTS,
    TERMS,
    eights_tables,
    eights_values,
    odd_step,
)  # fmt: skip
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import POINT_PUT, POINT_SCALES, kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.kernel_format import Kernels, PointKernels
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scalars import F32, HALF, ONE, U8, ZERO, Bytes, Floats, Int, Ints, Tables

__all__ = ["iq2_kernels", "largest_to_five"]

VALUES = (8, 25, 43)
"""What the integers 0, 1 and 2 of a point stand for. ggml: iq2xxs_grid, iq2xs_grid, iq2s_grid."""
QUARTER, FIVE = F32(0.25), F32(5)
STEPS, LAST = F32(31), 15
"""The largest scale is d * 31, as if the integers of scales were 2 * scale + 1."""


def largest_to_five(epsilon: float) -> Callable[..., None]:
    """The kernel start(s, largest, scale): the scale that makes the largest weight 5, the largest value.

    Groups whose largest weight is below epsilon become zeros.
    """
    least = F32(epsilon)

    @kernel
    def start(s: Floats, largest: Floats, scale: Floats) -> None:
        for j in range(LANES):
            scale[j] = largest[j] / FIVE
            largest[j] = largest[j] if largest[j] >= least else ZERO

    return start


def iq2_kernels(
    grid: str,
    *,
    n: int,
    block_bytes: int,
    distances: int,
    even: bool,
    sigma: float,
    start: Callable[..., None],
    steps: int,
    refit_all: bool = False,
    raised: float = 1.0,
    zeros_keep_points: bool = False,
    needs_importance: bool = True,
    put_point: Callable[..., None],
    put_scale: Callable[..., None],
    get_point: Callable[..., Any],
    get_scale: Callable[..., Any],
) -> Kernels:
    """The kernels of a format with groups of n weights, whose points are in `core/grids/tables/GRID.grid`.

    distances:  how many distances neighbours come from; see `load_grid`
    even, sigma: of signs, and of what weights count; see `load_signed`
    start:      the kernel start(s, largest, scale): fill the scales that groups keep if no try is any good, and make
                `largest` what `eights_search` takes for the largest weight: 0 for a group of zeros
    steps:      tries on each side; see `eights_search`
    refit_all:  fit the scale again also where all eights are points
    raised:     what is stored is d times this
    zeros_keep_points: a super-block whose scales are all 0 still has its points
    put_point:  (to, at, k, point, signs): store the k-th eight of the super-block at to[at:], which was set to 0
    put_scale:  (to, at, g, scale): store the integer of group g
    get_point:  (source, at, k) → (point, signs)
    get_scale:  (source, at, g) → scale
    """
    groups, parts, super_blocks = SUPERBLOCK // n, n // EIGHT, LANES * n // SUPERBLOCK
    load, above = load_signed(n, even=even, sigma=sigma), F32(raised)
    search, refit = eights_search(n, steps=steps), eights_refit(n)

    @kernel(ENCODE_EIGHTS)
    def encode(book: Tables, rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        s, terms = aligned(WORKSPACE), aligned(TERMS * LANES)
        scale, largest = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        signs, chosen = np.empty(parts * LANES, np.int32), np.empty(parts * LANES, np.int32)
        doubtful = np.empty(parts * LANES, np.int32)
        blocks = x.size // SUPERBLOCK
        for first in range(0, blocks, super_blocks):
            count = min(super_blocks, blocks - first)
            load(x, importance, first, count, s, signs, largest)
            chosen[:], doubtful[:] = 0, 0
            start(s, largest, scale)
            search(s, count * groups, largest, book, scale, chosen, doubtful)
            if refit_all:
                doubtful[:] = 1
            refit(s, count * groups, terms, book, scale, chosen, doubtful)
            for b in range(count):
                pack(book[0], scale, largest, signs, chosen, b * groups, to, (first + b) * block_bytes)

    @kernel
    def pack(
        index: Ints, scale: Floats, largest: Floats, signs: Ints, chosen: Ints, first: Int, to: Bytes, at: Int
    ) -> None:
        """Write one super-block, whose groups are in lanes from `first` on."""
        to[at : at + block_bytes] = U8(0)
        top = ZERO
        for g in range(groups):
            lane = first + g
            if not largest[lane] > ZERO:
                scale[lane] = ZERO
                continue
            flip = 255 if scale[lane] < ZERO else 0
            # What isn't a number comes of weights that overflow: ggml aborts.
            scale[lane] = abs(scale[lane]) if abs(scale[lane]) > ZERO else ZERO
            top = max(top, scale[lane])
            for p in range(parts):
                point, bits = index[chosen[p * LANES + lane]], signs[p * LANES + lane] ^ flip
                put_point(to, at, g * parts + p, point, bits)
        if top == ZERO:
            if not zeros_keep_points:
                to[at : at + block_bytes] = U8(0)
            return
        d = top / STEPS
        put_half(to, at, d * above)
        for g in range(groups):
            put_scale(to, at, g, odd_step(ONE / d, scale[first + g], LAST))

    @kernel(DECODE_EIGHTS)
    def decode(values: Floats, data: Bytes, rows: Floats) -> None:
        x, source = rows.reshape(rows.size), data.reshape(data.size)
        for block in range(x.size // SUPERBLOCK):
            at = block * block_bytes
            d = get_half(source, at)
            for g in range(groups):
                scale = d * (HALF + F32(get_scale(source, at, g))) * QUARTER
                for k in range(g * parts, (g + 1) * parts):
                    point, bits = get_point(source, at, k)
                    for i in range(EIGHT):
                        x[block * SUPERBLOCK + k * EIGHT + i] = scale * values[point, i] * SIGNS[bits, i]

    @kernel(POINT_SCALES)
    def grid_scales(data: Bytes, scales: Floats) -> None:
        source, to = data.reshape(data.size), scales.reshape(scales.size)
        for block in range(to.size // groups):
            at = block * block_bytes
            d = get_half(source, at)
            for g in range(groups):
                to[block * groups + g] = d * (HALF + F32(get_scale(source, at, g))) * QUARTER

    @kernel(POINT_PUT)
    def grid_put(choices: Ints, signs: Bytes, data: Bytes) -> None:
        points, bits, to = choices.reshape(choices.size), signs.reshape(signs.size), data.reshape(data.size)
        kept = np.empty(groups, np.int64)
        for block in range(to.size // block_bytes):
            at = block * block_bytes
            low, high = to[at], to[at + 1]  # d
            for g in range(groups):
                kept[g] = get_scale(to, at, g)
            to[at : at + block_bytes] = U8(0)
            to[at], to[at + 1] = low, high
            for g in range(groups):
                put_scale(to, at, g, kept[g])
            for e in range(SUPERBLOCK // EIGHT):
                first = block * (SUPERBLOCK // EIGHT) + e
                put_point(to, at, e, np.int64(points[first]), np.int64(bits[first]))

    return grid_kernels(
        tables=partial(eights_tables, grid, distances=distances, short=True), encode=encode,
        values=partial(eights_values, grid, VALUES), decode=decode, needs_importance=needs_importance,
        grid=PointKernels(
            points=partial(eights_values, grid, VALUES), group=n, even=even, scales=grid_scales, put=grid_put
        ),
    )  # fmt: skip
