"""The two kernels that encode rows, made of a search for the groups' scales and a format's own finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from quantrecipe.core import ENCODE, ENCODE_WEIGHTED, kernel
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scalars import Bytes, Floats

from quantrecipe_ik.core.weighing import Plain, weigh_plain, weigh_with_importance

__all__ = ["encoders"]


def encoders(
    n: int, plain: Plain, factor: float, search: Callable[..., None], finish: Callable[..., None]
) -> tuple[Callable[[Any, Any], None], Callable[[Any, Any, Any], None]]:
    """The kernels encode(rows, out) and encode(rows, importance, out) for groups of n weights.

    plain, factor: what a weight counts, see `weighing.py`
    search: (s, first, count, scales, counts, shifted): the groups in the lanes of s are those from `first` on. Fills
            their scales (float32), what their weights count together where `finish` asks for it (float32), and whether
            they take the shifted table (uint8)
    finish: (x, weights, scales, counts, shifted, k, to): of flat rows x of k weights, what each weight counts, and what
            was found of each group → flat bytes
    """
    weigh, weigh_important = weigh_plain(n, plain, factor), weigh_with_importance(n, factor)

    @kernel(ENCODE)
    def encode(rows: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        groups, s, weights = x.size // n, np.empty(WORKSPACE, np.float32), np.empty_like(x)
        scales, counts = np.empty(groups, np.float32), np.empty(groups, np.float32)
        shifted = np.empty(groups, np.uint8)
        for first in range(0, groups, LANES):
            count = min(LANES, groups - first)
            weigh(x, first, count, s, weights)
            search(s, first, count, scales, counts, shifted)
        finish(x, weights, scales, counts, shifted, rows.shape[1], to)

    @kernel(ENCODE_WEIGHTED)
    def encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        groups, s, weights = x.size // n, np.empty(WORKSPACE, np.float32), np.empty_like(x)
        scales, counts = np.empty(groups, np.float32), np.empty(groups, np.float32)
        shifted = np.empty(groups, np.uint8)
        for first in range(0, groups, LANES):
            count = min(LANES, groups - first)
            weigh_important(x, importance, first, count, s, weights)
            search(s, first, count, scales, counts, shifted)
        finish(x, weights, scales, counts, shifted, rows.shape[1], to)

    return encode, encode_weighted
