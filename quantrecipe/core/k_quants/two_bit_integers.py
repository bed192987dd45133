"""256 integers of 2 bits in 64 bytes: what Q2_K and Q3_K share.

    byte 32 h + i holds integer 128 h + 32 c + i in bits 2 c and 2 c + 1

ggml: block_q2_K, block_q3_K.
"""

from __future__ import annotations

from quantrecipe.core.bits import place
from quantrecipe.core.jit import disjoint_kernel, kernel
from quantrecipe.core.scalars import F32, I32, U8, Bytes, Floats, Int

__all__ = ["get_two_bit", "put_two_bit"]

GROUP = 16


@disjoint_kernel
def put_two_bit(levels: Bytes, to: Bytes) -> None:
    """levels: 256 uint8, whose lowest two bits count → to: 64 bytes."""
    for h in range(2):
        four, packed = levels[128 * h : 128 * h + 128], to[32 * h : 32 * h + 32]
        for i in range(32):
            low = U8(four[i] & U8(3)) | U8(U8(four[32 + i] & U8(3)) << U8(2))
            high = U8(four[64 + i] & U8(3)) | U8(U8(four[96 + i] & U8(3)) << U8(2))
            packed[i] = U8(low | U8(high << U8(4)))


@disjoint_kernel
def _sixteen(source: Bytes, at: Int, scales: Floats, minima: Floats, g: Int, x: Floats, first: Int) -> None:
    """Sixteen bytes, each with integers of four groups, which lie 32 weights apart."""
    at, first = place(at), place(first)
    scale0, scale1, scale2, scale3 = scales[g], scales[g + 2], scales[g + 4], scales[g + 6]
    low0, low1, low2, low3 = minima[g], minima[g + 2], minima[g + 4], minima[g + 6]
    for i in range(GROUP):
        byte = I32(source[at + i])
        x[first + i] = scale0 * F32(I32(byte & I32(3))) - low0
        x[first + 32 + i] = scale1 * F32(I32(I32(byte >> I32(2)) & I32(3))) - low1
        x[first + 64 + i] = scale2 * F32(I32(I32(byte >> I32(4)) & I32(3))) - low2
        x[first + 96 + i] = scale3 * F32(I32(byte >> I32(6))) - low3


@kernel
def get_two_bit(source: Bytes, at: Int, scales: Floats, minima: Floats, x: Floats, first: Int) -> None:
    """64 bytes from source[at] on; scales, minima: float32, one for each 16 weights → 256 floats from x[first] on."""
    _sixteen(source, at, scales, minima, 0, x, first)
    _sixteen(source, at + GROUP, scales, minima, 1, x, first + GROUP)
    _sixteen(source, at + 32, scales, minima, 8, x, first + 128)
    _sixteen(source, at + 32 + GROUP, scales, minima, 9, x, first + 128 + GROUP)
