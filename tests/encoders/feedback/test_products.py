"""Y += A X in one order of sums."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.core.jit import kernel
from quantrecipe.encoders.feedback.products import TILE, add_product, fma


@kernel("void(float32[::1], int64, int64, int64, float32[:,::1], float32[:,::1])")
def product(a, at, per_row, per_column, x, y):
    add_product(a, at, per_row, per_column, x, y)


@kernel("float32(float32, float32, float32)")
def fused(a, b, c):
    return fma(a, b, c)


def exact_fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """Products of two float32 are exact in float64; so are these sums, with the numbers below."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


def test_fma_rounds_once() -> None:
    a, c = np.float32(1 + 2.0**-12), np.float32(-1 - 2.0**-11)
    assert fused(a, a, c) == np.float32(2.0**-24)
    assert a * a + c == 0  # what two roundings make of it


def test_python_has_no_fma() -> None:
    with pytest.raises(TypeError, match="fma is an instruction of compiled kernels"):
        fma(1.0, 2.0, 3.0)


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
@pytest.mark.parametrize("columns", [1, 4, 6, TILE, TILE + 5])
@pytest.mark.parametrize("turned", [False, True])
def test_each_number_takes_its_products_in_order(rows: int, columns: int, turned: bool) -> None:
    rng = np.random.default_rng(rows * columns)
    a = rng.integers(-99, 99, (rows, columns)).astype(np.float32) / 64
    x = rng.integers(-999, 999, (columns, 5)).astype(np.float32) / 1024
    y = rng.standard_normal((rows, 5)).astype(np.float32)
    wanted = y.copy()
    for i in range(rows):
        for j in range(columns):
            wanted[i] = [exact_fma(a[i, j], x[j, r], wanted[i, r]) for r in range(5)]
    flat = np.concatenate([np.full(3, np.nan, np.float32), (a.T if turned else a).reshape(-1)])
    product(flat, 3, 1 if turned else columns, rows if turned else 1, x, y)
    assert y.tobytes() == wanted.tobytes()
