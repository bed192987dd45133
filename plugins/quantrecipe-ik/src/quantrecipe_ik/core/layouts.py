"""Where indices, tables and levels lie in the bytes of a super-block of a K or a KS type.

Tables and levels are stored and read by a pair of kernels. `at` is where the super-block's bytes begin, which are 0
before something is put; g is the group:

    tables    put(to, at, g, shifted): 0 or 1;      get(source, at, g)
    levels    put(to, at, g, level): an integer;    get(source, at, g)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quantrecipe.core import kernel
from quantrecipe.core.scalars import I32, U8, Bytes, Int

__all__ = ["LEVEL_BYTES", "SIX_BIT_LEVELS", "TABLE_BIT_0", "Indices", "Layout", "Stored", "bit_of_group"]

Stored = tuple[Callable[..., None], Callable[..., Any]]


@dataclass(frozen=True, kw_only=True)
class Indices:
    """256 indices, whose lower bits lie apart from the upper ones.

    The weights stand in columns of `wide`. A byte holds the same place of several columns, the first one in its lowest
    bits: with 4 bits two columns, with 2 bits four, with 1 bit eight.

    low_bits, lower:  how many lower bits, and the byte with which they begin
    high_bits, upper: the same of the upper bits, if there are any
    """

    low_bits: int
    lower: int
    high_bits: int = 0
    upper: int = 0
    wide: int = 32


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a format's bytes are.

    n:           weights in a group
    block_bytes: of a super-block
    row_bytes:   of the row's d, before its super-blocks: 2 (f16) or 4 (f32); 0: each super-block begins with an f16 d
    tables:      which table a group takes
    levels:      the level of a group
    """

    n: int
    block_bytes: int
    row_bytes: int = 0
    tables: Stored
    levels: Stored
    indices: Indices


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
