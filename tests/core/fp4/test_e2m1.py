"""The nearest 4-bit float, against a search through all sixteen as ggml makes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantrecipe.core.fp4.e2m1 import bounds, nearest_e2m1, twice_value

TWICE = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def oracle(x: np.float32, scale: np.float32) -> int:
    """The first of the sixteen whose distance is smallest."""
    with np.errstate(over="ignore"):
        return int(np.argmin(np.abs(TWICE * scale - x)))


def nearest(x: Any, scale: np.float32) -> int:
    return int(nearest_e2m1(np.float32(x), bounds(scale)))


def test_twice_value() -> None:
    assert [twice_value(np.uint32(q)) for q in range(16)] == TWICE.tolist()
    assert not np.signbit(np.float32(twice_value(np.uint32(8))))


SCALES = [1.0, 0.5, 2.0**-128, 2.0**-127, 2.0**-100, 2.0**100, 2.0**124, 9 * 2.0**-11, 224.0, 0.0]


@pytest.mark.parametrize("scale", SCALES)
def test_every_midpoint_and_its_neighbours(scale: float) -> None:
    scale = np.float32(scale)
    for middle in (0, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 13):
        x = np.float32(middle) * scale
        for near in (np.nextafter(x, np.float32(0)), x, np.nextafter(x, np.float32(np.inf))):
            for signed in (near, -near):
                if np.isfinite(signed):
                    assert nearest(signed, scale) == oracle(signed, scale), (signed, scale)


def test_no_q_is_given_whose_value_would_be_infinite() -> None:
    scale = np.float32(2.0**125)
    largest = np.finfo(np.float32).max
    assert nearest(largest, scale) == oracle(largest, scale) == 5
    assert nearest(-largest, scale) == oracle(-largest, scale) == 13
