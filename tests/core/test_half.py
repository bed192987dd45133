"""Single conversions between float32 and float16, in a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import kernel


@kernel
def _through(values: Any, data: Any, back: Any) -> None:
    for i in range(values.size):
        put_half(data, 2 * i, values[i])
        back[i] = get_half(data, 2 * i)


def test_a_float_is_stored_as_the_nearest_half_little_endian() -> None:
    values = np.float32([0, -0.0, 1, 1 / 3, 65504, 1e6, -1e6, 6e-8, 2e-8, 3e38, np.nan, np.inf])
    data, back = np.zeros(2 * values.size, np.uint8), np.zeros_like(values)
    _through(values, data, back)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert np.array_equal(data.view(np.uint16), expected.view(np.uint16))
    assert np.array_equal(back, expected.astype(np.float32), equal_nan=True)
