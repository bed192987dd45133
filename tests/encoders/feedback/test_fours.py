"""Fours with an even number of odd values: the best of all ways is found, and stays even in descent."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from support.gram_statistics import whole

from quantrecipe import load_registry
from quantrecipe.api import Grid, InputStatistics
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.encoders.feedback.factor import factorize
from quantrecipe.encoders.feedback.fours import descend_fours, factor_four, round_fours
from quantrecipe.encoders.feedback.rows import encode_rows
from quantrecipe.errors import FormatError

K, N, GROUP = 288, 32, 32
RNG = np.random.default_rng(3)
INPUTS = RNG.standard_normal((2 * K, K)) @ (np.eye(K) + 0.1 * RNG.standard_normal((K, K)))
GRAM = (INPUTS.T @ INPUTS / (2 * K)).astype(np.float32)
FACTOR = factorize(GRAM, 0.01)
FOURS = tuple((2 * i, 16 + 2 * i, 2 * i + 1, 17 + 2 * i) for i in range(8))
PLACES = np.array(FOURS)
VALUES = np.array([-12, -9, -7, -4, -2, -1, 1, 2, 5, 6, 9], np.float32)
ODD = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0], bool)
"""Six are even, and five are odd."""


def sides() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """values, halfway and own, as `round_fours` takes them."""
    own = np.array([np.flatnonzero(~ODD), [*np.flatnonzero(ODD), np.flatnonzero(ODD)[-1]]], np.uint8)
    values = VALUES[own]
    return values, (values[:, :-1] + values[:, 1:]) / np.float32(2), own


def groups(seed: int) -> list[np.ndarray]:
    """Scales, offsets and shifts of random groups."""
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(*limits, (K // GROUP, N)).astype(np.float32)
        for limits in ((0.1, 0.3), (-0.1, 0.1), (-1, 1))
    ]


def values_of(choices: np.ndarray, parts: list[np.ndarray], columns: np.ndarray) -> np.ndarray:
    """What choices (b, n) of these columns are."""
    scale, offset, shift = (it[columns // GROUP] for it in parts)
    return np.asarray(scale * (VALUES[choices] + shift) + offset)


def test_the_best_of_the_ways_is_taken() -> None:
    w, parts = np.random.default_rng(5).standard_normal((K, N)).astype(np.float32), groups(1)
    choices, q = np.empty((K, N), np.uint8), np.empty((K, N), np.float32)
    left, missed, columns = np.empty_like(q), np.empty_like(q), np.arange(K)
    round_fours(
        FACTOR.unit, FACTOR.variances, 0, columns[::4] // GROUP, w.copy(), w, *parts, *sides(), choices, q, left,
        missed,
    )  # fmt: skip
    assert np.array_equal(q, values_of(choices, parts, columns))
    assert np.array_equal(left, w - q)
    assert (ODD[choices].reshape(-1, 4, N).sum(axis=1) % 2 == 0).all()
    n, d = whole(FACTOR.unit, K), FACTOR.variances.astype(np.float64)
    assert np.allclose(missed, n.T @ left, atol=1e-4)
    same = []
    for first in range(0, K, 12):
        goal = w[first : first + 4] + n[:first, first : first + 4].T @ left[:first].astype(np.float64)
        may_be = [
            values_of(np.arange(len(VALUES))[:, None].repeat(N, 1), parts, np.array([c]))
            for c in columns[first : first + 4]
        ]
        best = np.full(N, np.inf)
        for way in product((False, True), repeat=4):
            if sum(way) % 2:
                continue
            cost, off = np.zeros(N), np.zeros((4, N))
            for i, odd in enumerate(way):
                target = goal[i] + n[first : first + i, first + i] @ off[:i]
                its = may_be[i][odd == ODD]
                value = its[np.abs(its - target).argmin(axis=0), np.arange(N)]
                off[i] = w[first + i] - value
                cost += d[first + i] * (target - value) ** 2
            best = np.minimum(best, cost)
        taken = (d[first : first + 4, None] * missed[first : first + 4].astype(np.float64) ** 2).sum(axis=0)
        same.append(np.isclose(taken, best, rtol=1e-3))
    assert np.mean(same) > 0.999


def test_a_four_s_part_of_the_matrix_is_factorized() -> None:
    g, unit, d = GRAM[:4, :4].copy(), np.eye(4, dtype=np.float32), np.ones(4, np.float32)
    factor_four(g, unit, d)
    assert np.allclose(unit * d @ unit.T, g, rtol=1e-5)
    assert (np.tril(unit, -1) == 0).all() and (np.diagonal(unit) == 1).all()


def test_rounds_lower_the_loss_until_nothing_changes() -> None:
    w, parts = np.random.default_rng(6).standard_normal((K, N)).astype(np.float32), groups(2)
    choices = np.full((K, N), 5, np.uint8)
    q = values_of(choices, parts, np.arange(K))
    p = np.ascontiguousarray(((w - q).T @ GRAM).astype(np.float32))
    losses = []
    for _ in range(200):
        off = (w - q).T.astype(np.float64)
        losses.append(float(((off @ GRAM) * off).sum()))
        changed = descend_fours(GRAM, PLACES, GROUP, p, q, *parts, *sides(), choices)
        assert np.array_equal(q, values_of(choices, parts, np.arange(K)))
        assert np.allclose(p, (w - q).T @ GRAM, atol=1e-2)
        if not changed:
            break
    assert changed == 0
    assert all(later < before for before, later in pairwise(losses))
    odd = ODD[choices].reshape(-1, GROUP, N)[:, PLACES].sum(axis=2)
    assert (odd % 2 == 0).all()
    # No single four can be better, whatever it takes: of a few, all that there is is tried.
    for column, r in ((0, 0), (270, 31)):
        group, four = column // GROUP, PLACES[column % 8]
        its = group * GROUP + four
        h = GRAM[np.ix_(its, its)].astype(np.float64)
        slope = ((w - q)[:, r].astype(np.float64) @ GRAM)[its]
        ways = np.array(
            [way for way in product(range(len(VALUES)), repeat=4) if ODD[list(way)].sum() % 2 == 0]
        )
        scale, offset, shift = (it[group, r] for it in parts)
        away = q[its, r] - (scale * (VALUES[ways] + shift) + offset)
        gains = 2 * away @ slope + np.einsum("wi,ij,wj->w", away, h, away)
        assert gains.min() > -0.02 * losses[-1] / N


def tied() -> Any:
    """IQ4_NL, where of each four an even number of indices is odd."""
    free: Any = load_registry(plugins=False).formats["IQ4_NL"]

    class Even(Grid):
        values, group, fours = free.grid.values, free.grid.group, FOURS
        odd = tuple(i % 5 in (1, 3) for i in range(16))  # 10 are even, 6 are odd
        scales = staticmethod(free.grid.scales)

        def store(self, data: np.ndarray, choices: np.ndarray) -> None:
            odd = np.array(self.odd)[choices].reshape(len(data), -1, GROUP)[..., PLACES]
            if (odd.sum(axis=-1) % 2).any():
                raise FormatError("a four is odd")
            free.grid.store(data, choices)

    class Tied(type(free)):  # type: ignore[misc]  # the format's class, whatever it is
        grid = Even()

    return Tied()


def test_most_of_the_error_is_made_good() -> None:
    """Nearly as much as without the bit that this saves."""
    fmt = tied()
    free = load_registry(plugins=False).formats["IQ4_NL"]
    rows = np.random.default_rng(8).standard_normal((24, K)).astype(np.float32)
    encoder = Feedback({"damping": 0.01})

    def lost(its: Any, data: np.ndarray) -> float:
        off = rows - its.decode(data, K).astype(np.float64)
        return float(((off @ GRAM) * off).sum())

    statistics = InputStatistics(gram=GRAM, tokens=2 * K)
    prepared = [encoder.prepare(statistics, fmt=it) for it in (free, fmt)]
    best = lost(free, encode_rows(rows, free, prepared[0], rounds=2))
    steps = [lost(fmt, encode_rows(rows, fmt, prepared[1], rounds=rounds)) for rounds in (0, 2)]
    assert best < steps[1] < 2.5 * best
    assert steps[1] < 0.95 * steps[0]


def test_the_order_has_to_keep_fours_together() -> None:
    fmt, rows = tied(), np.zeros((1, K), np.float32)
    with pytest.raises(FormatError, match="takes blocks of IQ4_NL apart") as caught:
        encode_rows(rows, fmt, FACTOR, rounds=0)
    assert "prepare it for this format" in str(caught.value)
