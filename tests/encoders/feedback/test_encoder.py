"""The options of `feedback`: what is left to the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.gram_statistics import whole

from quantrecipe.api import InputStatistics
from quantrecipe.encoders.feedback.encoder import Feedback, predicted_damping
from quantrecipe.errors import ImportanceError

K = 256


def statistics(tokens: int, k: int = K) -> InputStatistics:
    x = np.random.default_rng(0).standard_normal((2 * k, k)).astype(np.float32)
    return InputStatistics(gram=x.T @ x / np.float32(2 * k), tokens=tokens)


def test_fewer_tokens_for_each_column_are_damped_more() -> None:
    found = [predicted_damping(int(K * each), K) for each in (0.5, 1, 5, 20, 50, 100, 200, 1000, 100_000)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 5
    assert 0 < found[-1] < found[0] <= 1


def test_it_depends_on_their_ratio_alone() -> None:
    assert predicted_damping(50 * K, K) == predicted_damping(50 * 1024, 1024)


def test_it_has_two_digits() -> None:
    """So that neither the last bit of a root nor who reads it matters."""
    for tokens in range(K, 400 * K, 977):
        assert predicted_damping(tokens, K) == float(f"{predicted_damping(tokens, K):.2g}")


@pytest.mark.parametrize("tokens", [K, 20 * K, 300 * K])
def test_what_a_plan_shows_is_what_is_done(tokens: int) -> None:
    encoder, given = Feedback(), statistics(tokens)
    settled = encoder.settled(tokens, K)
    assert settled == {"damping": predicted_damping(tokens, K), "by": "column", "rounds": 2}
    before = given.gram.copy()
    prepared = encoder.prepare(given)
    assert encoder.remark(prepared) == ""
    assert np.array_equal(given.gram, before)
    damped, upper = (
        prepared.gram * np.diagonal(before).mean() * (1 + settled["damping"]),
        np.triu_indices(K, 1),
    )
    assert np.allclose(damped[upper], before[upper], atol=1e-6)
    assert np.allclose(np.diagonal(damped) / np.diagonal(before) - 1, settled["damping"], atol=3e-4)


def test_a_few_very_large_inputs_leave_the_others_as_they_are() -> None:
    """N of inputs that are scaled by s is s_i N_ij / s_j, as long as each is damped by its own mean square."""
    given, large = statistics(20 * K), np.ones(K, np.float32)
    large[::50] = 16
    scaled = InputStatistics(gram=given.gram * large * large[:, None], tokens=given.tokens)

    def off(encoder: Feedback) -> float:
        unit, found = (whole(encoder.prepare(it).unit, K) for it in (given, scaled))
        return float(np.abs(found - unit * large[:, None] / large).max())

    assert off(Feedback()) < 0.005
    assert off(Feedback({"damping": 0.11})) > 0.02
    assert off(Feedback({"damping": 0.11, "by": "column"})) < 0.005


def test_a_number_by_column_is_the_prediction_by_hand() -> None:
    given = statistics(20 * K)
    by_hand = Feedback({"damping": predicted_damping(20 * K, K), "by": "column"}).prepare(given)
    assert np.array_equal(by_hand.unit, Feedback().prepare(given).unit)


def test_inputs_that_are_always_zero_need_no_remark() -> None:
    gram = statistics(20 * K).gram.copy()
    gram[7], gram[:, 7] = 0, 0
    encoder = Feedback()
    assert encoder.remark(encoder.prepare(InputStatistics(gram=gram, tokens=20 * K))) == ""


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_isn_t_finite_is_refused(wrong: float) -> None:
    gram = statistics(20 * K).gram.copy()
    gram[7, 7], gram[8, 8] = wrong, np.inf
    with pytest.raises(ImportanceError, match="the Gram matrix has"):
        Feedback().prepare(InputStatistics(gram=gram, tokens=20 * K))


@pytest.mark.parametrize("damping", [0, 0.01, 1])
def test_a_number_stays_as_it_is(damping: Any) -> None:
    encoder = Feedback({"damping": damping})
    assert encoder.settled(K, K) == {"damping": damping, "by": "mean", "rounds": 2}
    assert encoder.prepare(statistics(K)).damping == damping


def test_experts_of_few_tokens_are_enough_where_the_damping_is_predicted() -> None:
    assert [Feedback().enough(tokens, K) for tokens in (0, K // 2 - 1, K // 2, K)] == [
        False,
        False,
        True,
        True,
    ]
    exact = Feedback({"damping": 0.3})
    assert [exact.enough(tokens, K) for tokens in (K // 2, K - 1, K)] == [False, False, True]


def test_damping_that_has_to_be_harder_is_remarked() -> None:
    given = statistics(K)
    gram = given.gram - 2 * np.eye(K, dtype=np.float32) * np.linalg.eigvalsh(given.gram)[0].astype(np.float32)
    encoder = Feedback({"damping": 0})
    assert encoder.remark(encoder.prepare(InputStatistics(gram=gram, tokens=K))).startswith("damped by 0.")
