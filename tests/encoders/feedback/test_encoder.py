"""The options of `feedback`: what is left to the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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
    assert settled == {"damping": predicted_damping(tokens, K), "by": "median", "rounds": 2}
    prepared = encoder.prepare(given)
    assert encoder.remark(prepared) == ""
    diagonal = np.diagonal(given.gram).astype(np.float64)
    assert prepared.damping * diagonal.mean() == pytest.approx(settled["damping"] * np.median(diagonal))


def test_a_few_very_large_inputs_leave_the_others_as_they_are() -> None:
    """What is added to the diagonal is the same; of a part of the mean it would be many times as much."""
    given, large = statistics(20 * K), np.ones(K, np.float32)
    large[::50] = 16
    scaled = InputStatistics(gram=given.gram * large * large[:, None], tokens=given.tokens)

    def added(encoder: Feedback, it: InputStatistics) -> float:
        return float(encoder.prepare(it).damping * np.diagonal(it.gram).mean())

    assert added(Feedback(), scaled) == pytest.approx(added(Feedback(), given), rel=0.05)
    by_mean = Feedback({"damping": 0.11})
    assert added(by_mean, scaled) > 4 * added(by_mean, given)


def test_a_number_by_median_is_the_prediction_by_hand() -> None:
    given = statistics(20 * K)
    by_hand = Feedback({"damping": predicted_damping(20 * K, K), "by": "median"}).prepare(given)
    assert np.array_equal(by_hand.unit, Feedback().prepare(given).unit)


def test_inputs_most_of_which_are_always_zero_need_no_remark() -> None:
    gram = np.zeros((K, K), np.float32)
    gram[:9, :9] = statistics(20 * K).gram[:9, :9]
    encoder = Feedback()
    prepared = encoder.prepare(InputStatistics(gram=gram, tokens=20 * K))
    assert prepared.damping > 0
    assert encoder.remark(prepared) == ""


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
