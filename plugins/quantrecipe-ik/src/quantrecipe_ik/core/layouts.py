"""Where indices, tables and levels lie in a super-block's bytes, for what more than one format has the same way.

    two bits     byte 32 h + i, bits 2 p and 2 p + 1: of weight 128 h + 32 p + i
    four bits    byte 32 p + i: of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half
    one bit      byte i, bit p: of weight 32 p + i

Each is a pair of kernels, (put, get). `at` is where the super-block's bytes begin, which are 0 before something is put.

    indices   put(indices, to, at): those of all 256 weights;   get(source, at, g, i): that of weight i of group g
    tables    put(to, at, g, shifted): 0 or 1;                  get(source, at, g)
    levels    put(to, at, g, level): an integer;                get(source, at, g)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.scalars import I32, U8, Bytes, Int

__all__ = [
    "LEVEL_BYTES", "SIX_BIT_LEVELS", "TABLE_BIT_0", "Stored",
    "bit_of_group", "five_bit_indices", "six_bit_indices", "three_bit_indices", "two_bit_indices",
]  # fmt: skip

Stored = tuple[Callable[..., None], Callable[..., Any]]


def _get_bits(n: int, bits: int) -> Callable[..., Any]:
    """The kernel get(source, at, g, i) for 1, 2 or 4 bits, of which a byte holds 8, 4 or 2: see above."""
    columns, in_column, mask = 8 // bits, 32 // n, U8((1 << bits) - 1)

    @kernel
    def get(source: Bytes, at: Int, g: Int, i: Int) -> Int:
        column, first = g // in_column, n * (g % in_column)
        return (source[at + 32 * (column // columns) + first + i] >> U8(bits * (column % columns))) & mask

    return get


@kernel
def _put_two_bits(indices: Bytes, to: Bytes, at: Int) -> None:
    at, length = place(at), trips(32, to)
    for h in range(2):
        for i in range(length):
            q0, q1 = indices[128 * h + i] & U8(3), indices[128 * h + 32 + i] & U8(3)
            q2, q3 = indices[128 * h + 64 + i] & U8(3), indices[128 * h + 96 + i] & U8(3)
            to[at + 32 * h + i] = q0 | U8(q1 << U8(2)) | U8(q2 << U8(4)) | U8(q3 << U8(6))


def two_bit_indices(n: int, first: int) -> Stored:
    """Two bits from byte `first` on."""
    get_two = _get_bits(n, 2)

    @kernel
    def put(indices: Bytes, to: Bytes, at: Int) -> None:
        _put_two_bits(indices, to, at + first)

    @kernel
    def get(source: Bytes, at: Int, g: Int, i: Int) -> Int:
        return get_two(source, at + first, g, i)

    return put, get


def three_bit_indices(n: int, lower: int, third: int) -> Stored:
    """Two lower bits from byte `lower` on, one bit from byte `third` on."""
    get_two, get_one = _get_bits(n, 2), _get_bits(n, 1)

    @kernel
    def put(indices: Bytes, to: Bytes, at: Int) -> None:
        _put_two_bits(indices, to, at + lower)
        at, length = place(at + third), trips(32, to)
        for i in range(length):
            bits = U8(0)
            for g in range(8):
                bits |= U8((indices[32 * g + i] >> U8(2)) << U8(g))
            to[at + i] = bits

    @kernel
    def get(source: Bytes, at: Int, g: Int, i: Int) -> Int:
        return get_two(source, at + lower, g, i) | U8(get_one(source, at + third, g, i) << U8(2))

    return put, get


def five_bit_indices(n: int, lower: int, fifth: int) -> Stored:
    """Four lower bits from byte `lower` on, one bit from byte `fifth` on."""
    get_four, get_one = _get_bits(n, 4), _get_bits(n, 1)

    @kernel
    def put(indices: Bytes, to: Bytes, at: Int) -> None:
        low_at, fifth_at, length = place(at + lower), place(at + fifth), trips(32, to)
        for p in range(4):
            for i in range(length):
                low, high = indices[64 * p + i], indices[64 * p + 32 + i]
                to[low_at + 32 * p + i] = (low & U8(15)) | U8(high << U8(4))
                bits = (low >> U8(4)) | U8((high >> U8(4)) << U8(1))
                to[fifth_at + i] |= U8(bits << U8(2 * p))

    @kernel
    def get(source: Bytes, at: Int, g: Int, i: Int) -> Int:
        return get_four(source, at + lower, g, i) | U8(get_one(source, at + fifth, g, i) << U8(4))

    return put, get


def six_bit_indices(n: int, lower: int, upper: int) -> Stored:
    """Four lower bits from byte `lower` on, two bits from byte `upper` on."""
    get_four, get_two = _get_bits(n, 4), _get_bits(n, 2)

    @kernel
    def put(indices: Bytes, to: Bytes, at: Int) -> None:
        low_at, upper_at, length = place(at + lower), place(at + upper), trips(32, to)
        for p in range(4):
            for i in range(length):
                low, high = indices[64 * p + i], indices[64 * p + 32 + i]
                to[low_at + 32 * p + i] = (low & U8(15)) | U8(high << U8(4))
                bits = (low >> U8(4)) | U8((high >> U8(4)) << U8(2))
                to[upper_at + 32 * (p // 2) + i] |= U8(bits << U8(4 * (p % 2)))

    @kernel
    def get(source: Bytes, at: Int, g: Int, i: Int) -> Int:
        return get_four(source, at + lower, g, i) | U8(get_two(source, at + upper, g, i) << U8(4))

    return put, get


def bit_of_group(first: int) -> Stored:
    """Bit g % 8 of byte first + g / 8."""

    @kernel
    def put(to: Bytes, at: Int, g: Int, shifted: Int) -> None:
        to[at + first + g // 8] |= U8(shifted << U8(g % 8))

    @kernel
    def get(source: Bytes, at: Int, g: Int) -> Int:
        return (source[at + first + g // 8] >> U8(g % 8)) & U8(1)

    return put, get


@kernel
def _put_six_bits(to: Bytes, at: Int, g: Int, level: Int) -> None:
    stored = U8(level + 32)
    to[at + 8 + g // 2] |= U8((stored & U8(15)) << U8(4 * (g % 2)))
    to[at + 4 + g // 4] |= U8((stored >> U8(4)) << U8(2 * (g % 4)))


@kernel
def _get_six_bits(source: Bytes, at: Int, g: Int) -> Int:
    low = (source[at + 8 + g // 2] >> U8(4 * (g % 2))) & U8(15)
    high = (source[at + 4 + g // 4] >> U8(2 * (g % 4))) & U8(3)
    return I32(low) + I32(high) * I32(16) - I32(32)


SIX_BIT_LEVELS: Stored = (_put_six_bits, _get_six_bits)
"""From -32 to 31: two upper bits from byte 4 on, four lower ones from byte 8 on, as in IQ4_K and IQ5_K."""


@kernel
def _put_bit_0(to: Bytes, at: Int, g: Int, shifted: Int) -> None:
    to[at + g] |= shifted


@kernel
def _get_bit_0(source: Bytes, at: Int, g: Int) -> Int:
    return source[at + g] & U8(1)


@kernel
def _put_byte(to: Bytes, at: Int, g: Int, level: Int) -> None:
    to[at + g] |= U8(level + 127)


@kernel
def _get_byte(source: Bytes, at: Int, g: Int) -> Int:
    return I32(source[at + g] & U8(254)) - I32(127)


TABLE_BIT_0: Stored = (_put_bit_0, _get_bit_0)
"""Bit 0 of byte g, whose others are the level: IQ4_KS and IQ5_KS."""
LEVEL_BYTES: Stored = (_put_byte, _get_byte)
"""An odd level from -127 to 127 in bits 1 to 7 of byte g."""
