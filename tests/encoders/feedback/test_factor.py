"""H = N D Nᵀ: what it is made of, that it is always the same, and what can't be factorized."""

from __future__ import annotations

import numpy as np
import pytest
from support.gram_statistics import whole

from quantrecipe.encoders.feedback.factor import TILE, factorize
from quantrecipe.encoders.feedback.products import STRIP
from quantrecipe.errors import ImportanceError


def gram_of(k: int, tokens: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((tokens, k)) @ (np.eye(k) + 0.3 * rng.standard_normal((k, k)))
    return (inputs.T @ inputs / tokens).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, STRIP, STRIP + 1, TILE - 1, TILE, TILE + 1, 3 * TILE, 200])
def test_it_is_the_damped_gram_matrix_in_units_of_its_mean_diagonal(k: int) -> None:
    gram = gram_of(k, 2 * k + 3)
    factor = factorize(gram, 0.01)
    wanted = gram / np.diagonal(gram).astype(np.float64).mean() + 0.01 * np.eye(k)
    unit = whole(factor.unit, k)
    assert np.abs(unit * factor.variances @ unit.T - wanted).max() < 3e-6
    assert np.abs(factor.gram - wanted).max() < 3e-6
    assert (np.diagonal(unit) == 1).all()
    assert (np.tril(unit, -1) == 0).all()
    assert factor.damping == 0.01


def test_another_order_of_columns_is_that_of_both_sides() -> None:
    k = 90
    gram, columns = gram_of(k, 300), np.random.default_rng(2).permutation(k)
    factor, moved = factorize(gram, 0.01, columns=columns), factorize(gram[np.ix_(columns, columns)], 0.01)
    assert factor.unit.tobytes() == moved.unit.tobytes()
    assert factor.variances.tobytes() == moved.variances.tobytes()
    assert factor.gram.tobytes() == factorize(gram, 0.01).gram.tobytes()
    assert factor.columns is columns


def test_variances_are_those_given_all_later_inputs() -> None:
    """1 / U_jj² of GPTQ's factor of the inverse."""
    gram = gram_of(96, 300).astype(np.float64)
    factor = factorize(gram.astype(np.float32), 0.05)
    damped = gram / np.diagonal(gram).mean() + 0.05 * np.eye(96)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    assert factor.variances == pytest.approx(1 / np.diagonal(upper) ** 2, rel=1e-5)


def test_threads_change_nothing() -> None:
    gram = gram_of(5 * TILE + 7, 700)
    one, three = factorize(gram, 0.01), factorize(gram, 0.01, threads=3)
    assert one.unit.tobytes() == three.unit.tobytes()
    assert one.variances.tobytes() == three.variances.tobytes()


def test_the_matrix_isn_t_changed_and_may_be_read_only() -> None:
    gram = gram_of(70, 200)
    kept = gram.copy()
    gram.flags.writeable = False
    factorize(gram, 0.01)
    assert (gram == kept).all()


def test_fewer_tokens_than_columns_take_damping() -> None:
    factor = factorize(gram_of(128, 20), 0.01)
    assert factor.damping == 0.01
    assert (factor.variances > 0).all()


def test_what_isn_t_positive_definite_is_damped_harder() -> None:
    """Rounding, or a damaged file, can make eigenvalues negative."""
    gram = np.eye(80, dtype=np.float32)
    gram[3, 7] = gram[7, 3] = 1.04
    factor = factorize(gram, 0.01)
    assert factor.damping == pytest.approx(0.1)
    assert np.isfinite(factor.unit).all()


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        ((3, 5), np.nan, r"has nan in row 3, column 5"),
        ((4, 4), np.inf, r"has inf in row 4, column 4"),
        ((2, 2), -1.0, "a mean square is negative"),
        ((3, 7), 40.0, "isn't positive definite, even with a damping of 1"),
    ],
)
def test_what_can_t_be_a_gram_matrix_is_refused(at: tuple[int, int], value: float, message: str) -> None:
    gram = np.eye(10, dtype=np.float32)
    gram[at] = gram[at[::-1]] = value
    with pytest.raises(ImportanceError, match=message):
        factorize(gram, 0.01)


def test_nothing_but_zeros_is_refused() -> None:
    with pytest.raises(ImportanceError, match="all inputs are zero"):
        factorize(np.zeros((8, 8), np.float32), 0.01)


def test_inputs_that_are_always_zero_are_no_harm() -> None:
    """Dead channels are in many models."""
    gram = gram_of(70, 200)
    gram[9], gram[:, 9] = 0, 0
    factor = factorize(gram, 0.01)
    assert factor.variances[9] == pytest.approx(0.01)
