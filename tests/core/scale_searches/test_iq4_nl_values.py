"""Sixteen uneven values: the nearest one is the one that ggml's search finds, up to the last float32."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.scale_searches.iq4_nl_values import HALFWAY, VALUES, index_near, value_near

F32 = np.float32


def by_bisection(x: np.float32) -> int:
    """The index, found as ggml's best_index_int8 finds it: by comparisons and two float32 differences."""
    if x <= VALUES[0]:
        return 0
    if x >= VALUES[-1]:
        return len(VALUES) - 1
    low, high = 0, len(VALUES) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if x < VALUES[middle] else (middle, high)
    return high - 1 if x - VALUES[high - 1] < VALUES[high] - x else high


def neighbours(x: np.float32, count: int) -> list[np.float32]:
    """The float32 around x, so many on each side."""
    found = [x]
    for direction in (-np.inf, np.inf):
        y = x
        for _ in range(count):
            y = np.nextafter(y, F32(direction))
            found.append(y)
    return found


@pytest.mark.parametrize("middle", [*VALUES, *HALFWAY], ids=str)
def test_around_values_and_half_way_points(middle: np.float32) -> None:
    for x in neighbours(F32(middle), 20):
        assert index_near(x) == by_bisection(x)
        assert value_near(x) == VALUES[by_bisection(x)]


def test_everywhere_else() -> None:
    rng = np.random.default_rng(0)
    for x in (rng.standard_normal(3000) * 10.0 ** rng.uniform(-3, 3, 3000)).astype(F32):
        assert index_near(x) == by_bisection(x)


@pytest.mark.parametrize(("x", "index"), [(np.inf, 15), (-np.inf, 0), (np.nan, 15), (0.0, 8), (-0.0, 8)])
def test_the_ends_and_what_is_no_number(x: float, index: int) -> None:
    assert index_near(F32(x)) == by_bisection(F32(x)) == index
