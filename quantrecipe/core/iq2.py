"""Super-blocks of which every eight weights are a point of a grid: the kernels of IQ2_XXS, IQ2_XS and IQ2_S.

    f16 d, then the points, the signs and the 4-bit scales of groups of 16 or 32 weights, where each format has them

    |x| ≈ d * (0.5 + scale) / 4 * point, in a point 8, 25 or 43

A format says how the bytes lie: `put` stores what has been found, `get_scale` and `get_point` read it.

ggml: quantize_row_iq2_xxs_impl, quantize_row_iq2_xs_impl, quantize_row_iq2_s_impl. Grids are in `core/tables`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from quantrecipe.core.aligned import aligned
from quantrecipe.core.eights import (
    DECODE_EIGHTS, EIGHT, ENCODE_EIGHTS, TERMS, eights_tables, eights_values,
)  # fmt: skip
from quantrecipe.core.grid_of_eights import eights_refit, eights_search
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import kernel
from quantrecipe.core.kernel_format import Kernels, with_tables
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scalars import F32, HALF, ONE, U8, ZERO
from quantrecipe.core.signed_eights import odd_step
from quantrecipe.core.signed_groups import load_signed
from quantrecipe.core.signs import SIGNS
from quantrecipe.core.superblock import SUPERBLOCK

__all__ = ["first_of_largest", "get_nibble", "iq2_kernels", "put_nibbles"]

VALUES = (8, 25, 43)
"""What the integers 0, 1 and 2 of a point stand for. ggml: iq2xxs_grid, iq2xs_grid, iq2s_grid."""
QUARTER, FIVE, STEPS = F32(0.25), F32(5), F32(31)


def iq2_kernels(
    grid: str,
    *,
    n: int,
    block_bytes: int,
    distances: int,
    steps: int,
    even: bool,
    sigma: float,
    epsilon: float,
    first_scales: Callable[..., None],
    refit_all: bool,
    raised: float,
    needs_importance: bool,
    put: Callable[..., None],
    get_scale: Callable[..., Any],
    get_point: Callable[..., Any],
) -> Kernels:
    """The kernels of a format with `n` weights in a group.

    distances, steps: see `load_codebook` and `eights_search`; even, sigma: see `load_signed`
    epsilon:      groups whose largest weight is smaller than this become zeros. ggml: GROUP_MAX_EPS
    first_scales: the kernel (s, largest, scale): a scale of each lane's group to begin with, and the `largest` for
                  `eights_search`
    refit_all:    round once more with the scale that was found also where all eights were points
    raised:       by how much the d that is stored is larger than the one that scales are divided by
    put:          the kernel (to, at, p, points, signs, lane): store the points and signs of a group; p is its number in
                  the super-block, `points` and `signs` rows of LANES, one for each eight; then the kernel is called
                  again for the scales: see `put_scales`
    get_scale:    the kernel (source, at, g) → the scale of a group, an integer
    get_point:    the kernel (source, at, k) → (point, signs) of the k-th eight
    """
    raise NotImplementedError
