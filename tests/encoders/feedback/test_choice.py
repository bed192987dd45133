"""No row is worse with feedback than without, measured in float64 with the damped Gram matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.api import InputStatistics
from quantrecipe.encoders.feedback import choice
from quantrecipe.encoders.feedback.choice import keep_better
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.feedback.rows import encode_rows
from quantrecipe.testing import nasty_rows

K = 512
FORMATS = load_registry(plugins=False).formats
RNG = np.random.default_rng(3)
INPUTS = RNG.standard_normal((1500, K)) @ (np.eye(K) + 0.2 * RNG.standard_normal((K, K)))
GRAM = (INPUTS.T @ INPUTS / 1500).astype(np.float32)
FACTOR = Feedback().prepare(InputStatistics(gram=GRAM, tokens=1500))
IMPORTANCE = np.diagonal(GRAM).copy()


def losses(rows: np.ndarray, fmt: Any, data: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        off = (rows - fmt.decode(data, K)).astype(np.float64)
        return np.asarray(((off @ FACTOR.gram.astype(np.float64)) * off).sum(axis=1))


@pytest.mark.parametrize("name", ["Q4_K", "Q2_K", "Q8_0", "IQ4_NL", "MXFP4", "IQ3_S", "IQ2_XXS", "IQ1_S"])
def test_no_row_is_worse(name: str) -> None:
    """Rows of zeros, of a single weight, of huge ones: many of them are better without, and stay so."""
    fmt, rows = FORMATS[name], nasty_rows(RNG, 48, K)
    plain = fmt.encode(rows, IMPORTANCE)
    data = encode_rows(rows, fmt, FACTOR, rounds=2, importance=IMPORTANCE)
    fed, alone = losses(rows, fmt, data), losses(rows, fmt, plain)
    finite = np.isfinite(alone)
    assert (fed[finite] <= alone[finite] * (1 + 1e-5)).all()
    kept = (data == plain).all(axis=1)
    assert 3 < kept.sum() < len(rows)
    assert kept[~finite].all()


def test_rows_whose_errors_go_beyond_float32_stay_as_the_format_makes_them() -> None:
    rows = nasty_rows(RNG, 4, K)
    rows[1] = np.float32(3e38)
    rows[1, ::2] *= -1
    fmt = FORMATS["MXFP4"]
    data = encode_rows(rows, fmt, FACTOR, rounds=2, importance=IMPORTANCE)
    assert np.array_equal(data[1], fmt.encode(rows[1:2], IMPORTANCE)[0])
    without = encode_rows(np.delete(rows, 1, axis=0), fmt, FACTOR, rounds=2, importance=IMPORTANCE)
    assert np.array_equal(np.delete(data, 1, axis=0), without)


def rows_and_two_ways(n: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Each second row is a little better in `fed`, each other one a little worse."""
    fmt, rows = FORMATS["Q4_0"], (RNG.standard_normal((n, K)) * 0.02).astype(np.float32)
    plain = fmt.encode(rows, IMPORTANCE)
    with_it = encode_rows(rows, fmt, FACTOR, rounds=1)
    fed = np.where(np.arange(n)[:, None] % 2, with_it, fmt.encode(rows * np.float32(1.2)))
    return fmt, rows, plain, fed


@pytest.mark.parametrize("n", [1, 16, 37])
def test_each_row_is_decided_for_itself(n: int) -> None:
    """Whatever is known before: a bound that is far too high decides nothing, and none at all (NaN) neither."""
    fmt, rows, plain, fed = rows_and_two_ways(n)
    want = np.where((losses(rows, fmt, plain) < losses(rows, fmt, fed))[:, None], plain, fed)
    assert n == 1 or (not np.array_equal(want, plain) and not np.array_equal(want, fed))
    for most in (losses(rows, fmt, fed) * 1.001, np.full(n, 1e9), np.full(n, np.nan)):
        out = fed.copy()
        keep_better(rows, fmt, FACTOR, IMPORTANCE, most.astype(np.float32), out)
        assert np.array_equal(out, want)


def test_rows_that_are_stored_together_go_together() -> None:
    fmt, rows, plain, fed = rows_and_two_ways(12)
    fed[:4] = encode_rows(rows[:4], fmt, FACTOR, rounds=1)

    class Interleaved:
        spec = replace(fmt.spec, rows_per_group=4)
        encode = staticmethod(fmt.encode)
        decode = staticmethod(fmt.decode)

    out = fed.copy()
    most = losses(rows, fmt, fed).astype(np.float32) * np.float32(1.001)
    keep_better(rows, Interleaved(), FACTOR, IMPORTANCE, most, out)  # type: ignore[arg-type]  # what is needed of one
    better = [losses(rows, fmt, it).reshape(3, 4).sum(axis=1) for it in (plain, fed)]
    assert (better[0] < better[1]).tolist() == [False, True, True]
    assert np.array_equal(out, np.concatenate([fed[:4], plain[4:]]))


def test_rows_that_have_lost_enough_are_followed_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    fmt, rows, _, fed = rows_and_two_ways(64)
    seen: list[tuple[int, int]] = []
    add = choice._add

    def noted(factor: Any, first: int, left: np.ndarray, sums: np.ndarray) -> None:
        seen.append((first, left.shape[1]))
        add(factor, first, left, sums)

    monkeypatch.setattr(choice, "_add", noted)
    most = np.full(64, 1e-6, np.float32)
    keep_better(rows, fmt, FACTOR, IMPORTANCE, most, fed.copy())
    assert seen == [(448, 64)]
    most[:5] = 1e9
    keep_better(rows, fmt, FACTOR, IMPORTANCE, most, fed.copy())
    assert seen[1:9] == [(448, 64), *((first, 32) for first in range(384, -1, -64))]
