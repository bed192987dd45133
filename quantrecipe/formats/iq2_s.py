"""IQ2_S: eights of weights from a grid of 1024 points, each with its sign, and a 4-bit scale for 16 weights.

    256 weights → f16 d, 32 × lower 8 bits of a point, 32 × signs, 8 × upper 2 bits of four points, 8 × two 4-bit scales
    (82 bytes)
    byte 2 + k    lower bits of the point of weights 8 k on
    byte 34 + k   their signs: bit i is set where weight 8 k + i is negative
    byte 66 + b   bits 2 l and 2 l + 1 the upper bits of the point of weights 32 b + 8 l on
    byte 74 + b   the scale of weights 32 b on in its lower half, of weights 32 b + 16 on in its upper half

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

ggml: block_iq2_s, quantize_row_iq2_s_impl. The grid is in `core/grids/tables/iq2_s.grid`.
"""

from __future__ import annotations

from quantrecipe.core import kernel
from quantrecipe.core.grids.iq2_kernels import iq2_kernels, largest_to_five
from quantrecipe.core.scalars import U8, Bytes, Int

__all__ = ["KERNELS"]

EPSILON = 1e-8  # ggml: GROUP_MAX_EPS_IQ2_S
RAISED = 0.9875
"""ggml stores d a little smaller than the fit says."""
LOW, SIGN, HIGH, SCALES = 2, 34, 66, 74


@kernel
def _put_point(to: Bytes, at: Int, k: Int, point: Int, signs: Int) -> None:
    to[at + LOW + k] = U8(point & 255)
    to[at + SIGN + k] = U8(signs)
    to[at + HIGH + k // 4] |= U8((point >> 8) << (2 * (k % 4)))


@kernel
def _put_scale(to: Bytes, at: Int, g: Int, scale: Int) -> None:
    to[at + SCALES + g // 2] |= U8(scale << (4 * (g % 2)))


@kernel
def _get_point(source: Bytes, at: Int, k: Int) -> tuple[Int, Int]:
    high = (source[at + HIGH + k // 4] >> (2 * (k % 4))) & 3
    return source[at + LOW + k] | (high << 8), source[at + SIGN + k]


@kernel
def _get_scale(source: Bytes, at: Int, g: Int) -> Int:
    return (source[at + SCALES + g // 2] >> U8(4 * (g % 2))) & U8(15)


KERNELS = iq2_kernels(
    "iq2_s", n=16, block_bytes=82, distances=1, even=False, sigma=2.0, start=largest_to_five(EPSILON), steps=9,
    raised=RAISED, zeros_keep_points=True, needs_importance=False,
    put_point=_put_point, put_scale=_put_scale, get_point=_get_point, get_scale=_get_scale,
)  # fmt: skip
