"""Generation, against answers that are made token by token, and what is drawn; test_engine has it in the worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine.generation import Sampler, generate, likeliest, side_by_side_for

Ints = NDArray[np.int32]
VOCABULARY = 13


class Cached:
    """A model whose next token depends on all that its sequence has been given, and a record of what was run."""

    def __init__(self) -> None:
        self.sequences: dict[int, list[int]] = {}
        self.shapes: list[tuple[int, int]] = []

    def __call__(
        self, tokens: Ints, positions: Ints, sequences: Ints, wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        rows = []
        for token, position, sequence, has in zip(tokens, positions, sequences, wanted, strict=True):
            history = self.sequences.setdefault(int(sequence), [])
            assert position == len(history)  # each token comes once, and in its place
            history.append(int(token))
            if has:
                rows.append(scores(history))
        self.shapes.append((len(tokens), len(rows)))
        return np.array(rows, np.float32).reshape(-1, VOCABULARY)


def scores(history: list[int]) -> list[float]:
    at = sum(token * (place + 3) for place, token in enumerate(history))
    return [math.sin(at * 1.7 + token * 2.3) for token in range(VOCABULARY)]


def naive(prompt: list[int], n: int, end: int) -> list[int]:
    history, said = list(prompt), []
    for _ in range(n):
        token = max(range(VOCABULARY), key=lambda it: np.float32(scores(history)[it]))
        if token == end:
            break
        said.append(token)
        history.append(token)
    return said


PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 0], [3, 3, 3, 3]]


@pytest.mark.parametrize("end", [-1, 5, 7])
@pytest.mark.parametrize("n_batch", [1, 3, 64])
def test_answers_are_those_of_each_prompt_alone(n_batch: int, end: int) -> None:
    prompts = [np.array(prompt, np.int32) for prompt in PROMPTS]
    said = list(generate(Cached(), lambda token: token == end, prompts, 9, n_batch=n_batch))
    assert [answer.tolist() for answer in said] == [naive(prompt, 9, end) for prompt in PROMPTS]
    assert all(answer.dtype == np.int32 for answer in said)
    if end != -1:
        assert {len(answer) for answer in said} > {9}  # some have ended, others haven't


def test_every_batch_has_the_same_shape_while_any_goes_on() -> None:
    run = Cached()
    prompts = [np.array(prompt, np.int32) for prompt in PROMPTS]
    said = list(generate(run, lambda token: token == 5, prompts, 9, n_batch=64))
    steps = max(map(len, said)) - 1
    assert run.shapes[:5] == [(len(prompt), 1) for prompt in PROMPTS]
    assert run.shapes[5:] == [(5, 5)] * (len(run.shapes) - 5)
    assert len(run.shapes) - 5 in (steps, steps + 1)


def test_a_long_prompt_has_one_output() -> None:
    run = Cached()
    list(generate(run, lambda token: True, [np.arange(7, dtype=np.int32)], 5, n_batch=3))
    assert run.shapes == [(3, 0), (3, 0), (1, 1)]


def test_it_stops_when_all_have_ended() -> None:
    run = Cached()
    list(generate(run, lambda token: True, [np.array([1], np.int32)], 100, n_batch=8))
    assert run.shapes == [(1, 1)]


def test_of_equals_the_first_token_is_taken() -> None:
    def run(*arrays: Any) -> NDArray[np.float32]:
        return np.array([[0.0, 2.0, 1.0, 2.0]], np.float32)

    (said,) = generate(run, lambda token: False, [np.array([0], np.int32)], 3, n_batch=8)
    assert said.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("prompts", "longest", "expected"),
    [(100, 128, 8), (3, 128, 3), (100, 4096, 4), (100, 99_999, 1), (0, 5, 1)],
)
def test_how_many_are_run_at_a_time(prompts: int, longest: int, expected: int) -> None:
    assert side_by_side_for(prompts, longest) == expected


@pytest.mark.parametrize(("most", "expected"), [(16, 16), (100, 27)])
def test_how_many_are_run_at_a_time_where_more_may_be(most: int, expected: int) -> None:
    assert side_by_side_for(100, 600, most=most) == expected


COUNTED, LAST = 50, 49


class Counting:
    """After token n of a sequence comes n + 1; sequence 1 ends after three. What is run is noted."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], list[int], list[int], list[bool]]] = []

    def run(
        self, tokens: Ints, positions: Ints, sequences: Ints, wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.batches.append((tokens.tolist(), positions.tolist(), sequences.tolist(), wanted.tolist()))
        logits = np.zeros((int(wanted.sum()), COUNTED), np.float32)
        pairs = zip(tokens[wanted].tolist(), sequences[wanted].tolist(), strict=True)
        for row, (token, sequence) in enumerate(pairs):
            logits[row, LAST if sequence == 1 and token >= 23 else min(token + 1, COUNTED - 2)] = 5
        return logits


def answers(
    model: Counting, n: int = 6, *, keep_shape: bool = True, choose: Callable[..., Ints] = likeliest
) -> list[list[int]]:
    prompts = [np.array([1, 2, 3], np.int32), np.array([20, 21], np.int32)]
    found = generate(*(model.run, LAST.__eq__, prompts, n), n_batch=2, keep_shape=keep_shape, choose=choose)
    return [it.tolist() for it in found]


@pytest.mark.parametrize("keep_shape", [True, False])
def test_answers_end_before_what_ends_them(keep_shape: bool) -> None:
    assert answers(Counting(), keep_shape=keep_shape) == [[4, 5, 6, 7, 8, 9], [22, 23]]


def test_a_sequence_that_has_ended_stays_or_goes() -> None:
    kept, left = Counting(), Counting()
    answers(kept)
    answers(left, keep_shape=False)
    assert [len(batch[0]) for batch in kept.batches[3:]] == [2, 2, 2, 2, 2]
    assert [batch[2] for batch in left.batches[3:]] == [[0, 1], [0, 1], [0], [0], [0]]
    assert [batch[1][0] for batch in left.batches[3:]] == [3, 4, 5, 6, 7]


def test_choose_gets_the_numbers_of_sequences() -> None:
    seen: list[list[int]] = []

    def choose(logits: NDArray[np.float32], sequences: Ints) -> Ints:
        seen.append(sequences.tolist())
        return likeliest(logits, sequences)

    answers(Counting(), 3, keep_shape=False, choose=choose)
    assert seen == [[0], [1], [0, 1], [0, 1]]


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
