"""IQ3_S: fours of weights from a grid of 512 points, with a 4-bit scale for 32 weights.

    256 weights → f16 d, 64 × lower bits of a point, 8 × 8 upper bits, 32 × 8 signs, 4 × two scales (110 bytes)
    byte 2 + i     the lower 8 bits of the point of weights 4 i on; its ninth bit is bit i % 8 of byte 66 + i // 8
    byte 74 + i    the signs of weights 8 i on (see `core/grids/ksigns.py`)
    byte 106 + p   the scale of group 2 p in its lower half, of group 2 p + 1 in its upper half

    |x| ≈ d * (1 + 2 * scale) * point, in a point 1, 3, 5, 7, 9, 11, 13 or 15

ggml: block_iq3_s, quantize_row_iq3_s_impl. The grid is in `core/grids/tables/iq3_s.grid`.
In a super-block with a group of zeros, ggml writes lower bits and signs of the groups after it one group too early, and
so does this encoder.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import kernel
from quantrecipe.core.grids.iq3_kernels import iq3_kernels
from quantrecipe.core.scalars import F32, I32, U8, Bytes, Float, Int

__all__ = ["KERNELS"]

EPSILON = float(np.finfo(np.float32).smallest_subnormal)  # ggml: only zeros become zeros
RAISED = 1.033  # ggml's, as in IQ3_XXS
VALUES = (1, 3, 5, 7, 9, 11, 13, 15)
POINTS, UPPER, SIGNS, SCALES = 2, 66, 74, 106


@kernel
def _put_point(to: Bytes, at: Int, g: Int, slot: Int, f: Int, point: Int) -> None:
    to[at + POINTS + 8 * slot + f] = U8(point & 255)
    to[at + UPPER + g] |= U8((point >> 8) << f)


@kernel
def _put_signs(to: Bytes, at: Int, g: Int, slot: Int, e: Int, signs: Int) -> None:
    to[at + SIGNS + 4 * slot + e] = U8(signs)


@kernel
def _put_scale(to: Bytes, at: Int, g: Int, scale: Int) -> None:
    to[at + SCALES + g // 2] |= U8(scale << (4 * (g % 2)))


@kernel
def _get_point(source: Bytes, at: Int, g: Int, f: Int) -> Int:
    upper = I32(I32(source[at + UPPER + g]) >> I32(f)) & I32(1)
    return I32(source[at + POINTS + 8 * g + f]) | I32(upper << I32(8))


@kernel
def _get_signs(source: Bytes, at: Int, g: Int, e: Int) -> Int:
    return source[at + SIGNS + 4 * g + e]


@kernel
def _get_scale(source: Bytes, at: Int, g: Int) -> Float:
    nibble = (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)
    return F32(I32(nibble) * I32(2) + I32(1))


KERNELS = iq3_kernels(
    "iq3_s", block_bytes=110, values=VALUES, distances=3, even=False, epsilon=EPSILON, steps=9, keep_points=False,
    raised=RAISED, zeros_keep_points=True, smallest_scale=1.0,
    put_point=_put_point, put_signs=_put_signs, put_scale=_put_scale,
    get_point=_get_point, get_signs=_get_signs, get_scale=_get_scale,
)  # fmt: skip
