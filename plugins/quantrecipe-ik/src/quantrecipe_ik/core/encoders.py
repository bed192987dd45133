"""The two kernels that encode rows, made of a search for the groups' scales and a format's own finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from quantrecipe.core import ENCODE, ENCODE_WEIGHTED, kernel

from quantrecipe_ik.core.search import Search, find_plain, find_weighted

__all__ = ["encoders"]


def encoders(
    search: Search, finish: Callable[..., None]
) -> tuple[Callable[[Any, Any], None], Callable[[Any, Any, Any], None]]:
    """The kernels encode(rows, out) and encode(rows, importance, out).

    finish(x, weights, scales, shifted, k, to): of flat rows x of k weights, what each weight counts, each group's scale
    and whether it takes the shifted table → flat bytes.
    """
    n, find, find_with_importance = search.n, find_plain(search), find_weighted(search)

    @kernel(ENCODE)
    def encode(rows: Any, out: Any) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        groups = x.size // n
        weights, scales, shifted = np.empty_like(x), np.empty(groups, np.float32), np.empty(groups, np.uint8)
        find(x, weights, scales, shifted)
        finish(x, weights, scales, shifted, rows.shape[1], to)

    @kernel(ENCODE_WEIGHTED)
    def encode_weighted(rows: Any, importance: Any, out: Any) -> None:
        x, to = rows.reshape(rows.size), out.reshape(out.size)
        groups = x.size // n
        weights, scales, shifted = np.empty_like(x), np.empty(groups, np.float32), np.empty(groups, np.uint8)
        find_with_importance(x, importance, weights, scales, shifted)
        finish(x, weights, scales, shifted, rows.shape[1], to)

    return encode, encode_weighted
