"""Greedy generation, against answers that are made token by token; test_engine has it through the worker."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine.generation import greedy, side_by_side_for

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
    said = list(greedy(Cached(), lambda token: token == end, prompts, 9, n_batch=n_batch))
    assert [answer.tolist() for answer in said] == [naive(prompt, 9, end) for prompt in PROMPTS]
    assert all(answer.dtype == np.int32 for answer in said)
    if end != -1:
        assert {len(answer) for answer in said} > {9}  # some have ended, others haven't


def test_every_batch_has_the_same_shape_while_any_goes_on() -> None:
    run = Cached()
    prompts = [np.array(prompt, np.int32) for prompt in PROMPTS]
    said = list(greedy(run, lambda token: token == 5, prompts, 9, n_batch=64))
    steps = max(map(len, said)) - 1
    assert run.shapes[:5] == [(len(prompt), 1) for prompt in PROMPTS]
    assert run.shapes[5:] == [(5, 5)] * (len(run.shapes) - 5)
    assert len(run.shapes) - 5 in (steps, steps + 1)


def test_a_long_prompt_has_one_output() -> None:
    run = Cached()
    list(greedy(run, lambda token: True, [np.arange(7, dtype=np.int32)], 5, n_batch=3))
    assert run.shapes == [(3, 0), (3, 0), (1, 1)]


def test_it_stops_when_all_have_ended() -> None:
    run = Cached()
    list(greedy(run, lambda token: True, [np.array([1], np.int32)], 100, n_batch=8))
    assert run.shapes == [(1, 1)]


def test_of_equals_the_first_token_is_taken() -> None:
    def run(*arrays: Any) -> NDArray[np.float32]:
        return np.array([[0.0, 2.0, 1.0, 2.0]], np.float32)

    (said,) = greedy(run, lambda token: False, [np.array([0], np.int32)], 3, n_batch=8)
    assert said.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("prompts", "longest", "expected"),
    [(100, 128, 8), (3, 128, 3), (100, 4096, 4), (100, 99_999, 1), (0, 5, 1)],
)
def test_how_many_are_run_at_a_time(prompts: int, longest: int, expected: int) -> None:
    assert side_by_side_for(prompts, longest) == expected
