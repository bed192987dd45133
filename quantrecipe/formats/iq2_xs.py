"""IQ2_XS: eights of weights from a grid of 512 points, with a 4-bit scale for 16 weights.

    256 weights → f16 d, 32 × u16 point and signs, 8 × two 4-bit scales (74 bytes)
    u16 k from byte 2   of weights 8 k on: bits 0 to 8 the point, bits 9 to 15 the signs of seven weights; the eighth
                        makes the number of negative ones even
    byte 66 + p         the scale of weights 32 p on in its lower half, of weights 32 p + 16 on in its upper half

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

ggml: block_iq2_xs, quantize_row_iq2_xs_impl. The grid is in `core/grids/tables/iq2_xs.grid`.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.grids.iq2_kernels import iq2_kernels, largest_to_five
from quantrecipe.core.grids.ksigns import even
from quantrecipe.core.scalars import U8, U32, Bytes, Int

__all__ = ["KERNELS"]

EPSILON = 1e-15  # ggml: GROUP_MAX_EPS
POINTS, SCALES = 2, 66


@kernel
def _put_point(to: Bytes, at: Int, k: Int, point: Int, signs: Int) -> None:
    to[at + POINTS + 2 * k] = U8(point & 255)
    to[at + POINTS + 2 * k + 1] = U8((point >> 8) | ((signs & 127) << 1))


@kernel
def _put_scale(to: Bytes, at: Int, g: Int, scale: Int) -> None:
    to[at + SCALES + g // 2] |= U8(scale << (4 * (g % 2)))


@kernel
def _get_point(source: Bytes, at: Int, k: Int) -> tuple[Int, Int]:
    low, high = source[at + POINTS + 2 * k], source[at + POINTS + 2 * k + 1]
    return low | ((high & 1) << 8), even(U32(high >> 1))


@kernel
def _get_scale(source: Bytes, at: Int, g: Int) -> Int:
    return (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)


KERNELS = iq2_kernels(
    "iq2_xs", n=16, block_bytes=74, distances=2, even=True, sigma=1.0, start=largest_to_five(EPSILON), steps=9,
    put_point=_put_point, put_scale=_put_scale, get_point=_get_point, get_scale=_get_scale,
)  # fmt: skip
