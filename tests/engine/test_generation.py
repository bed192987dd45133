"""Generation with a model of three lines: which tokens are run when, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine.generation import Sampler, generate, likeliest, side_by_side_for

Tokens = NDArray[np.int32]

VOCABULARY, END = 50, 49


class Counting:
    """After token n of a sequence comes n + 1; sequence 1 ends after three. What is run is noted."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], list[int], list[int], list[bool]]] = []

    def run(
        self, tokens: Tokens, positions: Tokens, sequences: Tokens, wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.batches.append((tokens.tolist(), positions.tolist(), sequences.tolist(), wanted.tolist()))
        logits = np.zeros((int(wanted.sum()), VOCABULARY), np.float32)
        pairs = zip(tokens[wanted].tolist(), sequences[wanted].tolist(), strict=True)
        for row, (token, sequence) in enumerate(pairs):
            logits[row, END if sequence == 1 and token >= 23 else min(token + 1, VOCABULARY - 2)] = 5
        return logits


def answers(
    model: Counting, n: int = 6, *, keep_shape: bool = True, choose: Callable[..., Tokens] = likeliest
) -> list[list[int]]:
    prompts = [np.array([1, 2, 3], np.int32), np.array([20, 21], np.int32)]
    found = generate(*(model.run, END.__eq__, prompts, n), n_batch=2, keep_shape=keep_shape, choose=choose)
    return [it.tolist() for it in found]


@pytest.mark.parametrize("keep_shape", [True, False])
def test_answers_end_before_what_ends_them(keep_shape: bool) -> None:
    assert answers(Counting(), keep_shape=keep_shape) == [[4, 5, 6, 7, 8, 9], [22, 23]]


def test_prompts_are_run_in_parts_and_then_a_token_of_each() -> None:
    model = Counting()
    answers(model, 2)
    assert model.batches == [
        ([1, 2], [0, 1], [0, 0], [False, False]),
        ([3], [2], [0], [True]),
        ([20, 21], [0, 1], [1, 1], [False, True]),
        ([4, 22], [3, 2], [0, 1], [True, True]),
    ]


def test_a_sequence_that_has_ended_stays_or_goes() -> None:
    kept, left = Counting(), Counting()
    answers(kept)
    answers(left, keep_shape=False)
    assert [len(batch[0]) for batch in kept.batches[3:]] == [2, 2, 2, 2, 2]
    assert [batch[2] for batch in left.batches[3:]] == [[0, 1], [0, 1], [0], [0], [0]]
    assert [batch[1][0] for batch in left.batches[3:]] == [3, 4, 5, 6, 7]


def test_it_ends_when_all_have() -> None:
    model = Counting()
    found = generate(model.run, END.__eq__, [np.array([30], np.int32)] * 2, 9, n_batch=8)
    assert len(list(found)) == 2
    assert len(model.batches) == 2 + 8


def test_choose_gets_the_numbers_of_sequences() -> None:
    seen: list[list[int]] = []

    def choose(logits: NDArray[np.float32], sequences: Tokens) -> Tokens:
        seen.append(sequences.tolist())
        return likeliest(logits, sequences)

    answers(Counting(), 3, keep_shape=False, choose=choose)
    assert seen == [[0], [1], [0, 1], [0, 1]]


def test_of_equally_likely_tokens_the_lowest() -> None:
    assert likeliest(np.zeros((2, 5), np.float32), np.arange(2, dtype=np.int32)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("prompts", "longest", "most", "expected"),
    [
        (100, 1000, 8, 8),
        (3, 1000, 8, 3),
        (100, 4096, 8, 4),
        (100, 100_000, 8, 1),
        (100, 600, 16, 16),
        (0, 0, 8, 1),
    ],
)
def test_how_many_side_by_side(prompts: int, longest: int, most: int, expected: int) -> None:
    assert side_by_side_for(prompts, longest, most=most) == expected


class TestSampler:
    LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.04, 0.01], np.float32))

    def drawn(self, temperature: float = 1.0, min_p: float = 0.0, count: int = 20_000) -> NDArray[np.float64]:
        sampler = Sampler(temperature, min_p, np.random.default_rng)
        rows = np.tile(self.LOGITS, (count, 1))
        tokens = sampler(rows, np.zeros(count, np.int32))
        return np.bincount(tokens, minlength=5) / count

    def test_as_often_as_they_are_likely(self) -> None:
        assert np.allclose(self.drawn(), np.exp(self.LOGITS), atol=0.01)

    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_a_temperature_divides_logits(self, temperature: float) -> None:
        expected = np.exp(self.LOGITS / temperature)
        assert np.allclose(self.drawn(temperature), expected / expected.sum(), atol=0.01)

    def test_unlikely_ones_are_left_out(self) -> None:
        expected = np.array([0.5, 0.3, 0.15, 0, 0]) / 0.95
        found = self.drawn(min_p=0.1)
        assert np.allclose(found, expected, atol=0.01)
        assert found[3] == found[4] == 0

    def test_min_p_is_a_share_after_the_temperature(self) -> None:
        """0.04 / 0.5 is 0.08, whose root is 0.28: kept at a temperature of 2."""
        found = self.drawn(temperature=2.0, min_p=0.1)
        assert (found[3] > 0, found[4] > 0) == (True, True)
        assert self.drawn(temperature=0.5, min_p=0.1)[2] == 0

    def test_a_sequence_draws_what_it_draws_alone(self) -> None:
        rows = np.tile(self.LOGITS, (3, 1))
        together = Sampler(1.0, 0.0, np.random.default_rng)
        both = [together(rows[:2], np.array([4, 9], np.int32)).tolist() for _ in range(50)]
        alone = Sampler(1.0, 0.0, np.random.default_rng)
        assert [pair[1] for pair in both] == [
            alone(rows[:1], np.array([9], np.int32)).tolist()[0] for _ in range(50)
        ]

    def test_large_logits_and_small_ones(self) -> None:
        row = np.array([[-np.inf, 3e38, -3e38, 3e38]], np.float32)
        sampler = Sampler(1.0, 0.0, np.random.default_rng)
        assert {int(sampler(row, np.zeros(1, np.int32))[0]) for _ in range(50)} == {1, 3}
