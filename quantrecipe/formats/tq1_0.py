"""TQ1_0: weights of three values, five in a byte, and a scale for 256 of them.

    256 weights → 32 × five q, 16 × five q, 4 × four q, f16 d (54 bytes)
    byte i        q of weights i, 32 + i, 64 + i, 96 + i, 128 + i
    byte 32 + i   q of weights 160 + i, 176 + i, 192 + i, 208 + i, 224 + i
    byte 48 + i   q of weights 240 + i, 244 + i, 248 + i, 252 + i, and a 0

    x ≈ d * (q - 1), q from 0 to 2; d is the largest size

The five q are the digits of a number n in base three, the first one highest; the byte is n * 256 / 243, rounded up.
So the upper two bits of 3 * byte are the first q, and its lower eight bits the byte of the others.

ggml: block_tq1_0, quantize_row_tq1_0_ref. Importance has no effect.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quantrecipe.core import DECODE, ENCODE, GRID_PUT, GRID_SCALES, GridKernels, Kernels, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.scalars import F32, I32, ONE, U8, U32, ZERO, Bytes, Float, Floats, Int
from quantrecipe.core.ternary import inverse_size, trit

__all__ = ["KERNELS"]

BYTES, D = 54, 52


@kernel
def _byte(number: Int) -> Int:
    """number * 256 / 243, rounded up, for numbers from 0 to 242; the quotient by a product, exact in this range."""
    return U8(I32(I32(number * I32(69042)) + I32(65535)) >> I32(16))


def _put_digits(n: int) -> Callable[..., None]:
    """The kernel put(x, iscale, to): digits of weights i, n + i, …, 4 n + i to byte i, for n bytes."""

    @disjoint_kernel
    def put(x: Floats, iscale: Float, to: Bytes) -> None:
        for i in range(n):
            number = I32(0)
            for c in range(5):
                number = I32(I32(number * I32(3)) + I32(trit(x[c * n + i] * iscale)))
            to[i] = _byte(number)

    return put


def _get_digits(n: int, count: int) -> Callable[..., None]:
    """The kernel get(source, at, d, x, first): the weights of n bytes with count digits each."""

    @disjoint_kernel
    def get(source: Bytes, at: Int, d: Float, x: Floats, first: Int) -> None:
        for i in range(n):
            rest = U32(source[at + i])
            for c in range(count):
                rest = U32(rest * U32(3))
                x[first + c * n + i] = (F32(I32(rest >> U32(8))) - ONE) * d
                rest = U32(rest & U32(255))

    return get


_put_32, _put_16 = _put_digits(32), _put_digits(16)
_get_32, _get_16, _get_4 = _get_digits(32, 5), _get_digits(16, 5), _get_digits(4, 4)


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // SUPERBLOCK
    x, to = rows.reshape(blocks, SUPERBLOCK), out.reshape(blocks, BYTES)
    bits = x.view(np.uint32)
    for b in range(blocks):
        d, iscale = inverse_size(bits[b])
        put_half(to[b], D, d)
        _put_32(x[b], iscale, to[b])
        _put_16(x[b, 160:], iscale, to[b, 32:])
        for i in range(4):
            number = I32(0)
            for c in range(4):
                number = I32(I32(number * I32(3)) + I32(trit(x[b, 240 + 4 * c + i] * iscale)))
            to[b, 48 + i] = _byte(I32(number * I32(3)))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for b in range(x.size // SUPERBLOCK):
        first, at = place(b * SUPERBLOCK), place(b * BYTES)
        d = get_half(source, at + D)
        _get_32(source, at, d, x, first)
        _get_16(source, at + 32, d, x, first + 160)
        _get_4(source, at + 48, d, x, first + 240)


@kernel
def _digits(q: Bytes, first: Int, step: Int) -> Int:
    """The byte of five choices, `step` apart."""
    number = I32(0)
    for c in range(5):
        number = I32(I32(number * I32(3)) + I32(q[first + c * step]))
    return _byte(number)


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    source, to = data.reshape(data.size), scales.reshape(scales.size)
    offsets[:] = ZERO
    for b in range(to.size):
        to[b] = get_half(source, b * BYTES + D)


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // SUPERBLOCK
    q, to = choices.reshape(blocks, SUPERBLOCK), data.reshape(blocks, BYTES)
    for b in range(blocks):
        for i in range(32):
            to[b, i] = _digits(q[b], i, 32)
        for i in range(16):
            to[b, 32 + i] = _digits(q[b], 160 + i, 16)
        for i in range(4):
            number = I32(0)
            for c in range(4):
                number = I32(I32(number * I32(3)) + I32(q[b, 240 + 4 * c + i]))
            to[b, 48 + i] = _byte(I32(number * I32(3)))


GRID = GridKernels(values=(-1, 0, 1), group=SUPERBLOCK, scales=_grid_scales, put=_grid_put)
KERNELS = Kernels(encode=_encode, decode=_decode, grid=GRID)
