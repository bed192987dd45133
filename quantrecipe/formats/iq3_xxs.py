"""IQ3_XXS: fours of weights from a grid of 256 points, with a 4-bit scale and signs for 32 weights.

    256 weights → f16 d, 64 × index of a point, 8 × u32 of signs and scale (98 bytes)
    byte 2 + i            the point of weights 4 i on
    u32 at byte 66 + 4 g  bits 7 k to 7 k + 6 the signs of weights 32 g + 8 k on, but for the eighth, which makes the
                          number of negative ones even; bits 28 to 31 the scale

    |x| ≈ d * (0.5 + scale) / 2 * point, in a point 4, 12, 20, 28, 36, 44, 52 or 62

ggml: block_iq3_xxs, quantize_row_iq3_xxs_impl. The grid is in `core/grids/tables/iq3_xxs.grid`.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.bits import get_word
from quantrecipe.core.grids.iq3_kernels import iq3_kernels
from quantrecipe.core.grids.ksigns import even
from quantrecipe.core.scalars import F32, HALF, U8, U32, Bytes, Float, Int

__all__ = ["KERNELS"]

EPSILON = 1e-8  # ggml: GROUP_MAX_EPS_IQ3_XXS
RAISED = 1.0125  # ggml: "small improvement via this fudge factor"
VALUES = (4, 12, 20, 28, 36, 44, 52, 62)
POINTS, PACKED = 2, 66


@kernel
def _put_point(to: Bytes, at: Int, g: Int, slot: Int, f: Int, point: Int) -> None:
    to[at + POINTS + 8 * g + f] = U8(point)


@kernel
def _put_signs(to: Bytes, at: Int, g: Int, slot: Int, e: Int, signs: Int) -> None:
    for b in range(4):
        to[at + PACKED + 4 * g + b] |= U8((((signs & 127) << (7 * e)) >> (8 * b)) & 255)


@kernel
def _put_scale(to: Bytes, at: Int, g: Int, scale: Int) -> None:
    to[at + PACKED + 4 * g + 3] |= U8(scale << 4)


@kernel
def _get_point(source: Bytes, at: Int, g: Int, f: Int) -> Int:
    return source[at + POINTS + 8 * g + f]


@kernel
def _get_signs(source: Bytes, at: Int, g: Int, e: Int) -> Int:
    return even(U32(get_word(source, at + PACKED + 4 * g) >> U32(7 * e)) & U32(127))


@kernel
def _get_scale(source: Bytes, at: Int, g: Int) -> Float:
    return (HALF + F32(source[at + PACKED + 4 * g + 3] >> U8(4))) * HALF


KERNELS = iq3_kernels(
    "iq3_xxs", block_bytes=98, values=VALUES, distances=2, even=True, epsilon=EPSILON, steps=15, keep_points=True,
    raised=RAISED, zeros_keep_points=False, smallest_scale=0.25,
    put_point=_put_point, put_signs=_put_signs, put_scale=_put_scale,
    get_point=_get_point, get_signs=_get_signs, get_scale=_get_scale,
)  # fmt: skip
