"""32 integers of 5 bits in 20 bytes, fifth bits first: what Q5_0 and Q5_1 share.

    byte i / 8, bit i % 8   the fifth bit of integer i
    byte 4 + i              lower bits of integer i in its lower half, of integer 16 + i in its upper half

ggml: block_q5_0, block_q5_1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.words import BIT_OF_EACH_BYTE, EACH_BYTE, LOWER_HALVES, get_word

__all__ = ["get_five_bit", "put_five_bit"]

F32 = np.float32
I32 = np.int32
U8 = np.uint8
U32 = np.uint32
U64 = np.uint64

HALF = 16


@disjoint_kernel
def put_five_bit(eights: Any, to: Any) -> None:
    """eights: 32 integers of a byte, 0 to 31, seen as four uint64 → to: 20 bytes."""
    for i in range(4):
        fifth = U64(U64(eights[i] >> U64(4)) & EACH_BYTE)
        to[i] = U8(U64(fifth * BIT_OF_EACH_BYTE) >> U64(56))
    for i in range(2):
        low, high = U64(eights[i] & LOWER_HALVES), U64(eights[2 + i] & LOWER_HALVES)
        packed = U64(low | U64(high << U64(4)))
        for c in range(8):
            to[4 + 8 * i + c] = U8(U64(packed >> U64(8 * c)) & U64(255))


@disjoint_kernel
def get_five_bit(source: Any, scale: Any, shift: Any, minimum: Any, x: Any) -> None:
    """source: 20 bytes → x: 32 floats, (integer - shift) * scale + minimum."""
    fifths = get_word(source, 0)
    for i in range(HALF):
        byte = U32(source[4 + i])
        low = U32(U32(byte & U32(15)) | U32(U32(U32(fifths >> U32(i)) & U32(1)) << U32(4)))
        high = U32(U32(byte >> U32(4)) | U32(U32(U32(fifths >> U32(HALF + i)) & U32(1)) << U32(4)))
        x[i] = (F32(I32(low)) - shift) * scale + minimum
        x[HALF + i] = (F32(I32(high)) - shift) * scale + minimum
