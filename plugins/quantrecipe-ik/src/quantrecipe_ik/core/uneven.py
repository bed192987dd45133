"""Groups of weights with uneven values and an integer times one scale: the kernels of the K and the KS types.

    x ≈ d * level * VALUES[table][index]

Each group has a level and one of two tables. d is of a super-block in IQ2_K … IQ6_K, and of a whole row in IQ2_KS …
IQ5_KS, which has it before its super-blocks. A format says where levels, tables and indices lie in its bytes (Layout),
how scales become levels, and how it searches.

ik_llama.cpp: quantize_row_iq2_k_impl, quantize_row_iq4_k_impl_bs16, quantize_row_iq4_k_impl_bs128 and their kin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from quantrecipe.core import DECODE, GridKernels, Kernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import GRID_PUT, GRID_SCALES, POINT_SCALES
from quantrecipe.core.scalars import F32, U8, ZERO, Bytes, Float, Floats, Int

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.layouts import Indices, Layout
from quantrecipe_ik.core.scales import get_float, inverse, put_float
from quantrecipe_ik.core.value_tables import Table, index_near
from quantrecipe_ik.core.weighing import SUPERBLOCK, Plain

__all__ = ["add_products", "uneven_kernels"]


def _put_indices(where: Indices) -> Callable[..., None]:
    """The kernel put(indices, to, at) for the 256 indices of a super-block, whose bytes are 0."""
    low_bits, lower, high_bits, upper = where.low_bits, where.lower, where.high_bits, where.upper
    wide, low_columns, high_columns = where.wide, 8 // low_bits, 8 // max(high_bits, 1)
    low_mask = U8((1 << low_bits) - 1)

    @kernel
    def put(indices: Bytes, to: Bytes, at: Int) -> None:
        length = trips(wide, to)
        for column in range(SUPERBLOCK // wide):
            low_at = place(at + lower + wide * (column // low_columns))
            high_at = place(at + upper + wide * (column // high_columns))
            first = place(wide * column)
            for i in range(length):
                index = indices[first + i]
                to[low_at + i] |= U8((index & low_mask) << U8(low_bits * (column % low_columns)))
                if high_bits:
                    to[high_at + i] |= U8((index >> U8(low_bits)) << U8(high_bits * (column % high_columns)))

    return put


def _decoder(layout: Layout, values: NDArray[np.float32]) -> Callable[[Any, Any], None]:
    """values: of both tables, one after the other."""
    n, block_bytes, row_bytes, where = layout.n, layout.block_bytes, layout.row_bytes, layout.indices
    get_table, get_level = layout.tables[1], layout.levels[1]
    get_d = get_float if row_bytes == 4 else get_half
    low_bits, lower, high_bits, upper = where.low_bits, where.lower, where.high_bits, where.upper
    wide, low_columns, high_columns = where.wide, 8 // low_bits, 8 // max(high_bits, 1)
    low_mask, high_mask = U8((1 << low_bits) - 1), U8((1 << high_bits) - 1)
    by_row, second, run = row_bytes > 0, len(values) // 2, min(n, wide)

    @kernel(DECODE)
    def decode(data: Bytes, rows: Floats) -> None:
        k, width, x, source = rows.shape[1], data.shape[1], rows.reshape(rows.size), data.reshape(data.size)
        for row in range(rows.shape[0]):
            start = place(row * width)
            d = get_d(source, start)
            for block in range(k // SUPERBLOCK):
                at = place(start + row_bytes + block * block_bytes)
                if not by_row:
                    d = get_d(source, at)
                for g in range(SUPERBLOCK // n):
                    scale, value = d * F32(get_level(source, at, g)), second * get_table(source, at, g)
                    # Written out here: with a kernel that gets an index, this was measured to take a quarter longer.
                    for weight in range(g * n, (g + 1) * n, run):
                        column, first = weight // wide, place(row * k + block * SUPERBLOCK) + weight
                        low_at = at + lower + wide * (column // low_columns) + weight % wide
                        high_at = at + upper + wide * (column // high_columns) + weight % wide
                        if not high_bits:  # with upper bits, this was measured to make it slower
                            low_at = place(low_at)
                        for i in range(run):
                            index = (source[low_at + i] >> U8(low_bits * (column % low_columns))) & low_mask
                            if high_bits:
                                high = source[high_at + i] >> U8(high_bits * (column % high_columns))
                                index |= U8((high & high_mask) << U8(low_bits))
                            x[first + i] = scale * values[value + index]

    return decode


def _grid(layout: Layout, values: NDArray[np.float32], by: float) -> GridKernels:
    """The second half of encoding: other indices beside the scales and tables that are there.

    values: of the plain table; by: how much the values of the shifted one are above them
    """
    n, block_bytes, row_bytes, where = layout.n, layout.block_bytes, layout.row_bytes, layout.indices
    get_table, get_level, put_indices = layout.tables[1], layout.levels[1], _put_indices(where)
    get_d = get_float if row_bytes == 4 else get_half
    groups, by_row, step = SUPERBLOCK // n, row_bytes > 0, F32(by)
    low, high = SUPERBLOCK * where.low_bits // 8, SUPERBLOCK * where.high_bits // 8
    lower, upper = where.lower, where.upper

    @kernel(GRID_SCALES)
    def scales_of(data: Bytes, scales: Floats, offsets: Floats) -> None:
        offsets[:] = ZERO
        for row in range(data.shape[0]):
            source = data[row]
            d = get_d(source, 0)
            for block in range(scales.shape[1] // groups):
                at = row_bytes + block * block_bytes
                if not by_row:
                    d = get_d(source, at)
                for g in range(groups):
                    scales[row, block * groups + g] = d * F32(get_level(source, at, g))

    @kernel(POINT_SCALES)
    def shifts_of(data: Bytes, shifts: Floats) -> None:
        for row in range(data.shape[0]):
            for group in range(shifts.shape[1]):
                at = row_bytes + group // groups * block_bytes
                shifts[row, group] = step if get_table(data[row], at, group % groups) else ZERO

    @kernel(GRID_PUT)
    def put(choices: Bytes, data: Bytes) -> None:
        for row in range(data.shape[0]):
            for block in range(choices.shape[1] // SUPERBLOCK):
                at, to = row_bytes + block * block_bytes, data[row]
                to[at + lower : at + lower + low] = U8(0)
                to[at + upper : at + upper + high] = U8(0)
                put_indices(choices[row, block * SUPERBLOCK : (block + 1) * SUPERBLOCK], to, at)

    return GridKernels(values=tuple(map(float, values)), group=n, scales=scales_of, shifts=shifts_of, put=put)


@cache
def _round_group(table: Table, n: int) -> Callable[..., None]:
    """The kernel round_to(x, at, iscale, shifted, indices, to) for n weights.

    indices[to:] = those of the values nearest to iscale * x[at:].
    """
    near, near_shifted = index_near(table, table.plain), index_near(table, table.shifted)

    @kernel
    def round_to(x: Floats, at: Int, iscale: Float, shifted: Int, indices: Bytes, to: Int) -> None:
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
    x: Floats, weights: Floats, at: Int, n: Int,
    values: Floats, first: Int, indices: Bytes, to: Int, level: Float, sums: Floats,
) -> None:  # fmt: skip
    """sums[0] += ∑ w q x and sums[1] += ∑ w q², in order, with q = level * values[first + index] of n weights."""
    at, to, first = place(at), place(to), place(first)
    sxl, sl2 = sums[0], sums[1]
    for i in range(n):
        w, v = weights[at + i], x[at + i]
        q = values[first + indices[to + i]] * level
        sxl += w * q * v
        sl2 += w * q * q
    sums[0], sums[1] = sxl, sl2


def uneven_kernels(
    layout: Layout,
    table: Table,
    search: Callable[..., None],
    levels: Callable[..., Any],
    *,
    plain: Plain = "square",
    factor: float = 2.0,
    raised: float = 1.0,
    if_empty: Literal["nothing", "tables", "all"] = "nothing",
    rounds_zeros: bool = False,
    add: Callable[..., None] = add_products,
    decoded: NDArray[np.float32] | None = None,
) -> Kernels:
    """The kernels of a format.

    search:   of the groups' scales; see `encoders`, also for plain and factor
    levels:   the kernel (scales, counts, first, count, levels) → (d, empty): what the scales of one d become; see
              `scales.py`
    raised:   what is stored is d times this: ik_llama.cpp has it a little larger than the fit says
    if_empty: what is written where d is 0: nothing, which tables groups take, or everything
    rounds_zeros: where a level is 0, indices are those of the value nearest to 0, and not 0
    add:      fits the scale above the levels; see `add_products`
    decoded:  the values of both tables for a decoder, where they aren't those that an encoder rounds to
    """
    n, block_bytes, row_bytes = layout.n, layout.block_bytes, layout.row_bytes
    put_table, put_level, put_indices = layout.tables[0], layout.levels[0], _put_indices(layout.indices)
    groups_in_block, by_row, second = SUPERBLOCK // n, row_bytes > 0, len(table.plain)
    put_d = put_float if row_bytes == 4 else put_half
    skip, write_levels, above = if_empty == "nothing", if_empty == "all", F32(raised)
    values = table.values
    round_to = _round_group(table, n)

    @kernel
    def finish(
        x: Floats, weights: Floats, scales: Floats, counts: Floats, shifted: Bytes, k: Int, to: Bytes
    ) -> None:
        """Make levels of the scales, round the weights with them, fit d to what came out, and pack."""
        weights_per_d = k if by_row else SUPERBLOCK
        groups, blocks = weights_per_d // n, weights_per_d // SUPERBLOCK
        width = row_bytes + blocks * block_bytes
        indices, sums = np.empty(SUPERBLOCK, np.uint8), np.empty(2, np.float32)
        its_levels = np.empty(groups, np.int32)
        for unit in range(x.size // weights_per_d):
            start = place(unit * width)
            to[start : start + width] = U8(0)
            d, empty = levels(scales, counts, unit * groups, groups, its_levels)
            if skip and empty:
                continue
            sums[:] = ZERO
            for block in range(blocks):
                at = start + row_bytes + block * block_bytes
                indices[:] = U8(0)  # what a group whose level is 0 keeps
                for g in range(groups_in_block):
                    in_unit = block * groups_in_block + g
                    group, level = unit * groups + in_unit, its_levels[in_unit]
                    put_table(to, at, g, shifted[group])
                    if d == ZERO and not (write_levels or skip):
                        continue
                    put_level(to, at, g, level)
                    dl = d * F32(level)
                    if rounds_zeros or dl != ZERO:
                        round_to(x, group * n, inverse(dl), shifted[group], indices, g * n)
                        add(
                            x, weights, group * n, n, values, shifted[group] * second, indices, g * n, F32(level), sums
                        )  # fmt: skip
                put_indices(indices, to, at)
            put_d(to, start, above * (sums[0] / sums[1] if sums[1] > ZERO else d))

    encode, encode_weighted = encoders(n, plain, factor, search, finish)
    stored = values if decoded is None else decoded
    decode, by = _decoder(layout, stored), table.shifted[0] - table.plain[0]
    grid = _grid(layout, stored[:second], by)
    return Kernels(encode=encode, encode_weighted=encode_weighted, decode=decode, grid=grid)
