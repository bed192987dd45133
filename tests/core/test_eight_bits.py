"""All 256 numbers of each type, times scales: the product that numpy makes of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantrecipe.core.eight_bits import rows_from_e4m3, rows_from_e5m2, rows_from_int8

BYTES = np.arange(256, dtype=np.uint8)


def e4m3(byte: int) -> float:
    """By the specification: the sign, 4 bits of exponent whose bias is 7, and 3 bits."""
    exponent, mantissa = byte >> 3 & 15, byte & 7
    if byte & 0x7F == 0x7F:
        return float("nan")
    size = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -size if byte & 0x80 else size


def e5m2(byte: int) -> float:
    exponent, mantissa = byte >> 2 & 31, byte & 3
    if exponent == 31:
        size = float("nan") if mantissa else float("inf")
    else:
        size = mantissa * 2.0**-16 if exponent == 0 else (4 + mantissa) * 2.0 ** (exponent - 17)
    return -size if byte & 0x80 else size


def int8(byte: int) -> float:
    return float(byte - 256 if byte & 0x80 else byte)


@pytest.mark.parametrize("width", [1, 5, 16, 51, 300])
@pytest.mark.parametrize(
    ("kernel", "value"),
    [(rows_from_e4m3, e4m3), (rows_from_e5m2, e5m2), (rows_from_int8, int8)],
    ids=["E4M3", "E5M2", "I8"],
)
def test_every_number_with_a_scale_for_each_run(kernel: Any, value: Any, width: int) -> None:
    data = np.stack([BYTES, BYTES[::-1]])
    runs = -(-256 // width)
    scales = np.linspace(-0.7, 3e3, 2 * runs, dtype=np.float32).reshape(2, runs)
    rows = np.empty((2, 256), np.float32)
    kernel(data, scales, width, rows)
    table = np.array([value(byte) for byte in range(256)], np.float32)
    expected = table[data] * scales.repeat(width, axis=1)[:, :256]
    assert np.array_equal(rows, expected, equal_nan=True)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(rows)[numbers], np.signbit(expected)[numbers])
