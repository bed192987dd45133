"""A scale and a minimum for each group of a row, both kept as they are: what Q4_1 and Q5_1 do with importance.

ggml: quantize_row_q4_1_impl, quantize_row_q5_1_impl.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.lanes import LANES, load_groups, load_importance, sums_of_squares, weigh_by_size
from quantrecipe.core.scale_min import scale_min_search

__all__ = ["find_in_rows"]

F32 = np.float32
LOWEST_RANGE, STEP, STEPS = F32(-0.9), F32(0.05), 36


@cache
def find_in_rows(n: int, nmax: int) -> Callable[..., None]:
    """The kernel find(x, importance, first, count, squares, s): load, weigh and search count ≤ LANES groups.

    A weight counts importance * sqrt(mean square of its row + its own square). squares is room for a float per row;
    calls come in the order of the groups, and group 0 fills it. Results are those of `scale_min.py`.
    """
    load, load_weights, weigh, search = (
        load_groups(n), load_importance(n), weigh_by_size(n), scale_min_search(n),
    )  # fmt: skip
    top = F32(nmax)

    @kernel
    def find(x: Any, importance: Any, first: Any, count: Any, squares: Any, s: Any) -> None:
        k = importance.size
        if first == 0:
            sums_of_squares(x, 0, squares.size, k, squares)
        even = np.empty(LANES, np.float32)
        for j in range(LANES):
            even[j] = squares[(first + min(j, count - 1)) * n // k] / F32(k)
        load(x, first, count, s)
        load_weights(importance, first, count, s)
        weigh(even, s)
        search(s, top, LOWEST_RANGE, STEP, STEPS)

    return find
