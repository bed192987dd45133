"""Chunks: how tokens are cut, in which order they run, and what each counts."""

from __future__ import annotations

import numpy as np
import pytest

from quantrecipe.calibration.chunks import DomainTokens, schedule
from quantrecipe.errors import EvaluationError


def domain(name: str, tokens: int, weight: float | None = None) -> DomainTokens:
    return DomainTokens(name=name, weight=weight, tokens=np.arange(tokens, dtype=np.int32))


def test_a_text_is_cut_as_it_lies() -> None:
    plan = schedule([domain("a", 70)], [16], [2])
    assert [group.chunks.tolist() for group in plan.groups] == [
        [list(range(16)), list(range(16, 32))],
        [list(range(32, 48)), list(range(48, 64))],
    ]
    assert (plan.tokens, plan.chunks, plan.factors) == ((64,), (4,), (1.0,))


def test_chunks_are_left_out_before_and_after() -> None:
    plan = schedule([domain("a", 160)], [16], [4], skip=2, chunks=3)
    assert [group.chunks[:, 0].tolist() for group in plan.groups] == [[32, 48, 64]]
    assert plan.tokens == (48,)


def test_domains_and_contexts_are_mixed_in_proportion() -> None:
    plan = schedule([domain("long", 16 * 8), domain("short", 16 * 2)], [16], [1])
    order = [group.domain for group in plan.groups]
    assert order == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    both = schedule([domain("a", 64)], [16, 32], [1, 1])
    assert [group.chunks.shape[1] for group in both.groups] == [16, 32, 16, 16, 32, 16]
    assert both.tokens == (128,)


@pytest.mark.parametrize(
    ("weights", "factors"),
    [
        ((None, None), (1, 1)),
        (
            (2.0, 1.0),
            (1.0, 2.0),
        ),  # the first is four times as long: each token counts half as much as of the second
        ((4.0, 1.0), (1.0, 1.0)),
        ((None, 3.0), (1.0, 12.0)),
    ],
)
def test_weights_are_shares_of_the_whole(
    weights: tuple[float | None, float | None], factors: tuple[float, float]
) -> None:
    domains = [domain("a", 64, weights[0]), domain("b", 16, weights[1])]
    plan = schedule(domains, [16], [1])
    assert plan.factors == factors
    assert all(group.weight == factors[group.domain] for group in plan.groups)


@pytest.mark.parametrize(
    ("tokens", "skip", "said"), [(15, 0, "15 tokens: 0 chunks of 16"), (40, 2, "2 are skipped")]
)
def test_a_text_that_fills_no_chunk(tokens: int, skip: int, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        schedule([domain("a", tokens)], [16], [1], skip=skip)


class TestFarWeights:
    def test_what_a_file_can_hold_is_counted(self) -> None:
        """A text of few tokens, and one that counts a million times as much: ratios stay, in smaller numbers."""
        plan = schedule([domain("a", 1600, 1.0), domain("b", 16000, 2.0**23)], [16], [1])
        whole = sum(factor * tokens for factor, tokens in zip(plan.factors, plan.tokens, strict=True))
        assert whole == pytest.approx(2**31)
        assert plan.factors[1] / plan.factors[0] == pytest.approx(2**23 / 10)

    @pytest.mark.parametrize("weights", [(1e-9, 1e9), (1e-300, 1e300), (1.0, 2e9), (5e-324, 1.0)])
    def test_a_text_that_would_have_no_say(self, weights: tuple[float, float]) -> None:
        with pytest.raises(EvaluationError, match=r"a token of b would count .* as one of a; .*leave a out"):
            schedule([domain("a", 16, weights[0]), domain("b", 16, weights[1])], [16], [1])
