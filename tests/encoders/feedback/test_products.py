"""Products with the factor in strips, in one order of sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantrecipe.core.jit import kernel
from quantrecipe.encoders.feedback.products import (
    LANES,
    STRIP,
    TOGETHER,
    add_across,
    add_down,
    add_product,
    add_tile,
    fma,
    strips_size,
    where,
)


@kernel("int64(int64, int64)")
def place_of(row: Any, column: Any) -> Any:
    return where(row, column)


@kernel("void(float32[::1], int64, float32[:,::1], int64, float32[:,::1])")
def down(strips: Any, row: Any, x: Any, column: Any, y: Any) -> None:
    add_down(strips, row, x, column, y)


@kernel("void(float32[::1], int64, float32[:,::1], float32[:,::1])")
def across(strips: Any, column: Any, x: Any, y: Any) -> None:
    add_across(strips, column, x, y)


@kernel("void(float64[:,::1], float64[:,::1], float64[:,::1])")
def product(a: Any, x: Any, y: Any) -> None:
    add_product(a, x, y)


@kernel("float32(float32, float32, float32)")
def fused(a: Any, b: Any, c: Any) -> Any:
    return fma(a, b, c)


def exact_fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Products of two float32 are exact in float64; so are these sums, with the numbers below."""
    return np.asarray(a.astype(np.float64) * b + c, np.float32)


def numbers(*shape: int) -> np.ndarray:
    """Of few bits, so that sums of two products round in float32 and not in float64."""
    rng = np.random.default_rng(shape[0])
    return (rng.integers(-999, 999, shape) / 1024).astype(np.float32)


def in_strips(n: np.ndarray) -> np.ndarray:
    k = len(n)
    found = np.full(strips_size(k), np.nan, np.float32)
    for column in range(-(-k // STRIP) * STRIP):
        for row in range((column // STRIP + 1) * STRIP):
            inside = row < k and column < k
            found[place_of(row, column)] = n[row, column] if inside else 0
    assert not np.isnan(found).any()  # each place once
    return found


def test_fma_rounds_once() -> None:
    a, c = np.float32(1 + 2.0**-12), np.float32(-1 - 2.0**-11)
    assert fused(a, a, c) == np.float32(2.0**-24)
    assert a * a + c == 0  # what two roundings make of it


@pytest.mark.parametrize("instruction", [fma, add_tile])
def test_python_has_no_such_instructions(instruction: object) -> None:
    with pytest.raises(TypeError, match="is an instruction of compiled kernels"):
        instruction(1.0, 2.0, 3.0)  # type: ignore[operator]  # kernels call it


K = TOGETHER + 4 * STRIP
N = np.triu(numbers(K, K))
STRIPS = in_strips(N)


@pytest.mark.parametrize("lanes", [LANES, 3 * LANES])
@pytest.mark.parametrize(
    ("row", "b", "column", "m"),
    [
        (0, 32, 32, 64),
        (16, 5, 24, 40),
        (0, 64, 48, 16),  # part of it below the diagonal
        (0, 64, 16, 32),  # and beyond the end of a strip
        (3, 1, 9, 1),
        (0, TOGETHER + 20, TOGETHER + 20, 32),
        (64, 0, 64, 16),
    ],
)
def test_later_columns_take_what_earlier_ones_left(row: int, b: int, column: int, m: int, lanes: int) -> None:
    x, y = numbers(b, lanes), numbers(m, lanes)
    wanted = y.copy()
    for i in range(m):
        for j in range(b):
            if row + j <= column + i:
                wanted[i] = exact_fma(N[row + j, column + i], x[j], wanted[i])
    down(STRIPS, row, x, column, y)
    assert y.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("lanes", [LANES, 3 * LANES])
@pytest.mark.parametrize(
    ("column", "b", "m"),
    [(0, K, K), (32, 32, 48), (32, 20, 64), (0, 7, 7), (48, 33, 20), (16, TOGETHER + 8, 90)],
)
def test_earlier_columns_take_what_later_ones_missed(column: int, b: int, m: int, lanes: int) -> None:
    x, y = numbers(b, lanes), numbers(m, lanes)
    wanted = y.copy()
    for i in range(m):
        for j in range(b):
            if i <= column + j:
                wanted[i] = exact_fma(N[i, column + j], x[j], wanted[i])
    across(STRIPS, column, x, y)
    assert y.tobytes() == wanted.tobytes()


def test_tiles_of_doubles_are_the_same() -> None:
    rng = np.random.default_rng(5)
    a, x, y = (rng.integers(-(2**20), 2**20, shape) / 2.0**10 for shape in ((32, 9), (9, 48), (32, 48)))
    wanted = y + a @ x  # exact in any order: 53 bits are enough
    product(a, x, y)
    assert np.array_equal(y, wanted)
