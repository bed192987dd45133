"""The kernels of the trellis types: how blocks, points and signs lie in the bytes, and the loops around that.

row          → f32 d, then its super-blocks
super-block  → 8 blocks of 32 weights with a level each, and perhaps a book; in each block 4 or 8 indices of points

x ≈ d * factor of the level * point
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quantrecipe.core import DECODE, Kernels, PointKernels, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.jit import POINT_BOOKS, POINT_PUT, POINT_SCALES
from quantrecipe.core.scalars import F32, I32, U8, ZERO, Bytes, Floats, Int, Ints

from quantrecipe_ik.core.scales import get_float
from quantrecipe_ik.core.trellis.blocks import BLOCK, BLOCKS
from quantrecipe_ik.core.trellis.encoder import ROW_BYTES, Trellis, encoder
from quantrecipe_ik.core.trellis.generator import books, coordinate, points
from quantrecipe_ik.core.trellis.levels import Levels

__all__ = ["Stored", "nibbles_and_words", "trellis_kernels"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a format has what, as kernels. at: where a super-block's bytes begin; block: of its eight.

    block_bytes: of a super-block
    put_level:   (to, at, block, level, book): store the level of a block's scale, and its book; bytes were set to 0
    get_level:   (source, at, block) → (level, book)
    put_index:   (to, at, block, g, index): store the index of a group's point
    get_index:   (source, at, block, g) → index
    signs:       for points without signs the first of 32 bytes; bit `block` of byte i is set where weight i is negative
    """

    block_bytes: int
    put_level: Callable[..., None]
    get_level: Callable[..., Any]
    put_index: Callable[..., None]
    get_index: Callable[..., Any]
    signs: int = 0


def nibbles_and_words(block_bytes: int, signs: int = 0) -> Stored:
    """IQ2_KT and IQ3_KT: levels in the halves of bytes 0 to 3, of blocks b and 4 + b; then a u16 for each index."""

    @kernel
    def put_level(to: Bytes, at: Int, block: Int, level: Int, book: Int) -> None:
        to[at + block % 4] |= U8(U8(level) << U8(4 * (block // 4)))

    @kernel
    def get_level(source: Bytes, at: Int, block: Int) -> tuple[Int, Int]:
        return I32((source[at + block % 4] >> U8(4 * (block // 4))) & U8(15)), 0

    @kernel
    def put_index(to: Bytes, at: Int, block: Int, g: Int, index: Int) -> None:
        word = at + 4 + 2 * (4 * block + g)
        to[word], to[word + 1] = U8(index & 255), U8(index >> 8)

    @kernel
    def get_index(source: Bytes, at: Int, block: Int, g: Int) -> Int:
        word = at + 4 + 2 * (4 * block + g)
        return I32(source[word]) | I32(source[word + 1]) << 8

    return Stored(
        block_bytes=block_bytes, put_level=put_level, get_level=get_level,
        put_index=put_index, get_index=get_index, signs=signs,
    )  # fmt: skip


def trellis_kernels(what: Trellis, levels: Levels, stored: Stored) -> Kernels:
    """The kernels of a format. Without importance all columns are equally important."""
    encode = encoder(what, levels, _pack(what, stored), stored.block_bytes)

    def arrays() -> tuple[NDArray[Any], ...]:
        return books(what.count, what.size, what.bins, offsets=what.offsets, positive=what.positive).arrays

    def plain(rows: NDArray[Any], out: NDArray[Any]) -> None:
        encode(arrays(), rows, np.ones(rows.shape[1], F32), out)

    def weighted(rows: NDArray[Any], importance: NDArray[Any], out: NDArray[Any]) -> None:
        encode(arrays(), rows, importance, out)

    decode, grid = _decoder(what, levels, stored), _grid(what, levels, stored)
    return Kernels(encode=plain, encode_weighted=weighted, decode=decode, grid=grid)


def _pack(what: Trellis, stored: Stored) -> Callable[..., None]:
    """The kernel pack, as `encoder` takes it."""
    groups, positive, signs, block_bytes = BLOCK // what.size, what.positive, stored.signs, stored.block_bytes
    put_level, put_index = stored.put_level, stored.put_index

    @kernel
    def pack(rows: Floats, levels: Ints, found: Ints, chosen: Bytes, row: Int, to: Bytes, start: Int) -> None:
        blocks = rows.shape[1] // BLOCK
        for b in range(blocks):
            at = place(start + ROW_BYTES + b // BLOCKS * block_bytes)
            block, first = b % BLOCKS, row * blocks + b
            put_level(to, at, block, levels[first], chosen[first])
            for g in range(groups):
                put_index(to, at, block, g, found[first * groups + g])
            if positive:
                for i in range(BLOCK):
                    negative = rows[row, b * BLOCK + i] < ZERO
                    to[at + signs + i] |= U8((U8(1) if negative else U8(0)) << U8(block))

    return pack


def _grid(what: Trellis, levels: Levels, stored: Stored) -> PointKernels:
    """The second half of encoding: other points beside the levels and books that are there."""
    groups, positive, signs, block_bytes = BLOCK // what.size, what.positive, stored.signs, stored.block_bytes
    put_level, put_index, get_level = stored.put_level, stored.put_index, stored.get_level
    factor_of, eights = levels.factor, BLOCK // 8

    @kernel(POINT_SCALES)
    def scales_of(data: Bytes, scales: Floats) -> None:
        for row in range(data.shape[0]):
            d = get_float(data[row], 0)
            for b in range(scales.shape[1]):
                level, _ = get_level(data[row], ROW_BYTES + b // BLOCKS * block_bytes, b % BLOCKS)
                scales[row, b] = d * factor_of(level)

    @kernel(POINT_BOOKS)
    def books_of(data: Bytes, chosen: Bytes) -> None:
        for row in range(data.shape[0]):
            for b in range(chosen.shape[1]):
                _, book = get_level(data[row], ROW_BYTES + b // BLOCKS * block_bytes, b % BLOCKS)
                chosen[row, b] = U8(book)

    @kernel(POINT_PUT)
    def put(choices: Ints, negative: Bytes, data: Bytes) -> None:
        its_levels, its_books = np.empty(BLOCKS, np.int32), np.empty(BLOCKS, np.uint8)
        for row in range(data.shape[0]):
            to = data[row]
            for first in range(0, choices.shape[1] // groups, BLOCKS):
                at = ROW_BYTES + first // BLOCKS * block_bytes
                for block in range(BLOCKS):
                    level, book = get_level(to, at, block)
                    its_levels[block], its_books[block] = level, U8(book)
                to[at : at + block_bytes] = U8(0)
                for block in range(BLOCKS):
                    put_level(to, at, block, its_levels[block], its_books[block])
                    for g in range(groups):
                        put_index(to, at, block, g, I32(choices[row, (first + block) * groups + g]))
                    if positive:
                        for i in range(BLOCK):
                            bit = (negative[row, (first + block) * eights + i // 8] >> U8(i % 8)) & U8(1)
                            to[at + signs + i] |= U8(bit << U8(block))

    @cache
    def all_points() -> NDArray[np.float32]:
        made = [points(what.count, what.size, offset=it, positive=positive) for it in what.offsets]
        return np.concatenate(made)

    count = len(what.offsets)
    return PointKernels(
        points=all_points, group=BLOCK, signed=not positive, scales=scales_of, put=put,
        books=count, books_of=books_of if count > 1 else None,
    )  # fmt: skip


def _decoder(what: Trellis, levels: Levels, stored: Stored) -> Callable[[Any, Any], None]:
    size, groups, positive, signs = what.size, BLOCK // what.size, what.positive, stored.signs
    offsets, factor_of, block_bytes = np.array(what.offsets, I32), levels.factor, stored.block_bytes
    get_level, get_index = stored.get_level, stored.get_index

    @kernel(DECODE)
    def decode(data: Bytes, rows: Floats) -> None:
        k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
        for row in range(rows.shape[0]):
            x, start = rows[row], place(row * width)
            d = get_float(source, start)
            for b in range(k // BLOCK):
                at, block = place(start + ROW_BYTES + b // BLOCKS * block_bytes), b % BLOCKS
                level, book = get_level(source, at, block)
                scale, offset = d * factor_of(level), offsets[book]
                for g in range(groups):
                    index = get_index(source, at, block, g)
                    for i in range(size):
                        q = coordinate(index, i, offset)
                        q = scale * (abs(q) if positive else q)
                        if positive:
                            negative = (source[at + signs + g * size + i] >> U8(block)) & U8(1)
                            q = -q if negative else q
                        x[b * BLOCK + g * size + i] = q

    return decode
