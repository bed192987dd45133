"""float32 ↔ float16 and bfloat16, by integer arithmetic that vectorises on any CPU.

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm     exponent bias 127
    float16   s eeeee    mmmmmmmmmm                  exponent bias 15, below 2^-14 in steps of 2^-24
    bfloat16  s eeeeeeee mmmmmmm                     the upper half of a float32

To the narrower type numbers round to the nearest, ties to the even one, as IEEE 754, ggml and the converters
do; beyond 65519 a float16 is infinite.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core.bits import MAGNITUDE, as_bits, as_float
from quantrecipe.core.jit import DECODE, ENCODE, kernel
from quantrecipe.core.scalars import F32, U16, U32, Bytes, Float, Floats, Int

__all__ = [
    "bf16_bytes_from_rows",
    "f16_bits",
    "f16_bytes_from_rows",
    "f16_value",
    "f32_bytes_from_rows",
    "get_half",
    "put_half",
    "rows_from_bf16_bytes",
    "rows_from_f16_bytes",
    "rows_from_f32_bytes",
]

INFINITE = U32(0x7F800000)  # float32's infinity; magnitudes above it are NaNs
HALF = U32(0x3F000000)  # 0.5, whose last place is 2^-24, the step of the smallest float16 numbers
SMALLEST_NORMAL = U32(0x38800000)  # 2^-14
OVERFLOW = U32(0x47800000)  # 2^16
REBIAS = U32((127 - 15) << 10)
QUIET = U32(0x400000)


@kernel
def f16_bits(value: Float) -> Int:
    """The bits (uint32, below 2^16) of the float16 nearest to a float32."""
    bits = as_bits(value)
    size = U32(bits & MAGNITUDE)
    small = U32(as_bits(as_float(size) + F32(0.5)) - HALF)  # the addition rounds
    normal = U32(U32(size + U32(0xFFF) + U32(U32(size >> U32(13)) & U32(1))) >> U32(13)) - REBIAS
    half = small if size < SMALLEST_NORMAL else U32(normal)
    half = half if size < OVERFLOW else U32(0x7C00)
    half = half if size <= INFINITE else U32(0x7E00)
    return U32(U32(U32(bits >> U32(16)) & U32(0x8000)) | half)


@kernel
def f16_value(half: Float) -> Float:
    """The float32 of float16 bits (uint32, below 2^16)."""
    half = U32(half)
    size = U32(U32(half & U32(0x7FFF)) << U32(13))
    small = as_bits(as_float(U32(half & U32(0x7FFF)) + HALF) - F32(0.5))
    wide = U32(size + U32((127 - 15) << 23))
    wide = wide if size < U32(0x7C00 << 13) else U32(size | INFINITE)
    wide = small if size < U32(0x0400 << 13) else wide
    return as_float(wide | U32(U32(half & U32(0x8000)) << U32(16)))


@kernel
def put_half(out: Bytes, at: Int, value: Float) -> None:
    """Store a float32 as a little-endian float16."""
    bits = f16_bits(value)
    out[at] = np.uint8(bits & U32(0xFF))
    out[at + 1] = np.uint8(bits >> U32(8))


@kernel
def get_half(data: Bytes, at: Int) -> Float:
    """The little-endian float16 at a place, as float32."""
    return f16_value(U32(data[at]) | (U32(data[at + 1]) << U32(8)))


@kernel(ENCODE)
def f32_bytes_from_rows(rows: Floats, out: Bytes) -> None:
    """rows float32 (n, k) → out uint8 (n, 4k)."""
    x = rows.reshape(rows.size)
    to = out.reshape(out.size).view(F32)
    for i in range(x.size):
        to[i] = x[i]


@kernel(DECODE)
def rows_from_f32_bytes(data: Bytes, rows: Floats) -> None:
    """data uint8 (n, 4k) → rows float32 (n, k)."""
    source = data.reshape(data.size).view(F32)
    x = rows.reshape(rows.size)
    for i in range(x.size):
        x[i] = source[i]


@kernel(ENCODE)
def f16_bytes_from_rows(rows: Floats, out: Bytes) -> None:
    """rows float32 (n, k) → out uint8 (n, 2k)."""
    x = rows.reshape(rows.size)
    halves = out.reshape(out.size).view(U16)
    for i in range(x.size):
        halves[i] = U16(f16_bits(x[i]))


@kernel(DECODE)
def rows_from_f16_bytes(data: Bytes, rows: Floats) -> None:
    """data uint8 (n, 2k) → rows float32 (n, k)."""
    halves = data.reshape(data.size).view(U16)
    x = rows.reshape(rows.size)
    for i in range(x.size):
        x[i] = f16_value(U32(halves[i]))


@kernel(ENCODE)
def bf16_bytes_from_rows(rows: Floats, out: Bytes) -> None:
    """rows float32 (n, k) → out uint8 (n, 2k). A NaN stays one."""
    bits = rows.reshape(rows.size).view(U32)
    halves = out.reshape(out.size).view(U16)
    for i in range(bits.size):
        b = bits[i]
        rounded = U32(b + U32(0x7FFF) + U32(U32(b >> U32(16)) & U32(1)))
        chosen = rounded if U32(b & MAGNITUDE) <= INFINITE else U32(b | QUIET)
        halves[i] = U16(chosen >> U32(16))


@kernel(DECODE)
def rows_from_bf16_bytes(data: Bytes, rows: Floats) -> None:
    """data uint8 (n, 2k) → rows float32 (n, k)."""
    halves = data.reshape(data.size).view(U16)
    bits = rows.reshape(rows.size).view(U32)
    for i in range(bits.size):
        bits[i] = U32(halves[i]) << U32(16)
