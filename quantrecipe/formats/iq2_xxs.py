"""IQ2_XXS: eights of weights from a grid of 256 points, with a 4-bit scale and signs for 32 weights.

    256 weights → f16 d, 8 × (4 × index of a point, u32 of signs and scale) (66 bytes)
    byte 2 + 8 g + k      the point of weights 32 g + 8 k on
    u32 at byte 6 + 8 g   bits 7 k to 7 k + 6 the signs of weights 32 g + 8 k on, but for the eighth, which makes the
                          number of negative ones even; bits 28 to 31 the scale

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

ggml: block_iq2_xxs, quantize_row_iq2_xxs_impl. The grid is in `core/grids/tables/iq2_xxs.grid`.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import kernel
from quantrecipe.core.bits import get_word
from quantrecipe.core.grids.iq2_kernels import iq2_kernels
from quantrecipe.core.grids.ksigns import even
from quantrecipe.core.lanes import LANES, WT, X
from quantrecipe.core.scalars import F32, U8, U32, ZERO, Bytes, Floats, Int
from quantrecipe.core.scale_searches.make_qp_quants import COMMON, COUNTS, IN, TABLE, make_qp_quants

__all__ = ["KERNELS"]

EPSILON = F32(1e-15)  # ggml: GROUP_MAX_EPS
THREE = F32(3)
N = 32
_first_search = make_qp_quants(N, 4)


@kernel
def _start(s: Floats, largest: Floats, scale: Floats) -> None:
    """ggml: the scale that suits integers from 0 to 4 best, of which the points' are but some."""
    table = np.zeros(TABLE, np.float32)
    for i in range(N * LANES):
        table[IN + i], table[COUNTS + i] = s[X + i], s[WT + i]
    _first_search(table)
    for j in range(LANES):
        scale[j] = table[COMMON + j]
        largest[j] = scale[j] * THREE if largest[j] >= EPSILON else ZERO


@kernel
def _put_point(to: Bytes, at: Int, k: Int, point: Int, signs: Int) -> None:
    group, part = at + 2 + 8 * (k // 4), k % 4
    to[group + part] = U8(point)
    for b in range(4):
        to[group + 4 + b] |= U8((((signs & 127) << (7 * part)) >> (8 * b)) & 255)


@kernel
def _put_scale(to: Bytes, at: Int, g: Int, scale: Int) -> None:
    to[at + 9 + 8 * g] |= U8(scale << 4)


@kernel
def _get_point(source: Bytes, at: Int, k: Int) -> tuple[Int, Int]:
    group, part = at + 2 + 8 * (k // 4), k % 4
    return source[group + part], even(U32(get_word(source, group + 4) >> U32(7 * part)) & U32(127))


@kernel
def _get_scale(source: Bytes, at: Int, g: Int) -> Int:
    return source[at + 9 + 8 * g] >> U8(4)


KERNELS = iq2_kernels(
    "iq2_xxs", n=N, block_bytes=66, distances=2, even=True, sigma=1.0, start=_start, steps=6, refit_all=True,
    put_point=_put_point, put_scale=_put_scale, get_point=_get_point, get_scale=_get_scale,
)  # fmt: skip
