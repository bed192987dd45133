"""256 integers of 2 bits in 64 bytes: what Q2_K and Q3_K share.

    byte 32 h + i holds integer 128 h + 32 c + i in bits 2 c and 2 c + 1

ggml: block_q2_K, block_q3_K.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import disjoint_kernel, kernel

__all__ = ["get_two_bit", "put_two_bit"]

I32 = np.int32
U8 = np.uint8
F32 = np.float32

GROUP = 16


@disjoint_kernel
def put_two_bit(levels: Any, to: Any) -> None:
    """levels: 256 uint8, whose lowest two bits count → to: 64 bytes."""
    for h in range(2):
        four, packed = levels[128 * h : 128 * h + 128], to[32 * h : 32 * h + 32]
        for i in range(32):
            low = U8(four[i] & U8(3)) | U8(U8(four[32 + i] & U8(3)) << U8(2))
            high = U8(four[64 + i] & U8(3)) | U8(U8(four[96 + i] & U8(3)) << U8(2))
            packed[i] = U8(low | U8(high << U8(4)))


@disjoint_kernel
def _sixteen(source: Any, scales: Any, minima: Any, x: Any) -> None:
    """Sixteen bytes, each with integers of four groups, which lie 32 weights apart."""
    scale0, scale1, scale2, scale3 = scales[0], scales[2], scales[4], scales[6]
    low0, low1, low2, low3 = minima[0], minima[2], minima[4], minima[6]
    for i in range(GROUP):
        byte = I32(source[i])
        x[i] = scale0 * F32(I32(byte & I32(3))) - low0
        x[32 + i] = scale1 * F32(I32(I32(byte >> I32(2)) & I32(3))) - low1
        x[64 + i] = scale2 * F32(I32(I32(byte >> I32(4)) & I32(3))) - low2
        x[96 + i] = scale3 * F32(I32(byte >> I32(6))) - low3


@kernel
def get_two_bit(source: Any, scales: Any, minima: Any, x: Any) -> None:
    """source: 64 bytes; scales and minima: float32, one for each 16 weights → x: 256 floats."""
    for h in range(2):
        for part in range(2):
            group = 8 * h + part
            at = 32 * h + GROUP * part
            _sixteen(source[at:], scales[group:], minima[group:], x[128 * h + GROUP * part :])
