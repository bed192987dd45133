"""How the built-in formats say what is wrong with their input; what the contract promises is in tests/testing."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.api import QuantFormat
from quantrecipe.errors import FormatError, NonFiniteError
from quantrecipe.formats import ALL

CODECS = [fmt for fmt in ALL if fmt.spec.codec]
each_codec = pytest.mark.parametrize("fmt", CODECS, ids=lambda fmt: fmt.spec.name)


def columns(fmt: QuantFormat) -> int:
    return fmt.spec.block * 3 if fmt.spec.block > 1 else 96


def rows_of(fmt: QuantFormat, n: int = 41, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, columns(fmt)), np.float32) * np.float32(0.02)
    rows[::5] *= np.float32(300)
    rows[1::7, ::3] = 0
    return rows


def importance_of(fmt: QuantFormat) -> np.ndarray | None:
    if fmt.spec.importance == "ignored":
        return None
    return np.random.default_rng(1).exponential(1.0, columns(fmt)).astype(np.float32)


@each_codec
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(fmt: QuantFormat, value: float) -> None:
    rows = rows_of(fmt)
    rows[17, 5] = value
    with pytest.raises(NonFiniteError, match="row 17, column 5"):
        fmt.encode(rows, importance_of(fmt))


@each_codec
def test_an_importance_that_is_not_finite_is_named(fmt: QuantFormat) -> None:
    importance = np.ones(columns(fmt), np.float32)
    importance[9] = np.nan
    with pytest.raises(NonFiniteError, match="column 9"):
        fmt.encode(rows_of(fmt), importance)


@each_codec
def test_what_does_not_fit_is_refused_with_its_shape(fmt: QuantFormat) -> None:
    rows, k = rows_of(fmt, 4), columns(fmt)
    importance = importance_of(fmt)
    with pytest.raises(FormatError, match="float64"):
        fmt.encode(rows.astype(np.float64), importance)
    with pytest.raises(FormatError, match="matrix"):
        fmt.encode(rows[0], importance)
    with pytest.raises(FormatError, match="importance"):
        fmt.encode(rows, np.ones(k - 1, np.float32))
    with pytest.raises(FormatError, match="out must be"):
        fmt.encode(rows, importance, out=np.empty((4, fmt.spec.row_bytes(k) + 1), np.uint8))
    data = fmt.encode(rows, importance)
    with pytest.raises(FormatError, match="out must be"):
        fmt.decode(data, k, out=np.empty((4, 2 * k), np.float32)[:, ::2])
    with pytest.raises(FormatError, match="bytes"):
        fmt.decode(data[:, :-1], k)
    if fmt.spec.block > 1:
        with pytest.raises(FormatError, match="divide"):
            fmt.encode(rows[:, :-1])


def test_importance_is_asked_for_where_it_is_required() -> None:
    for fmt in CODECS:
        if fmt.spec.importance == "required":
            with pytest.raises(FormatError, match="importance"):
                fmt.encode(rows_of(fmt))
