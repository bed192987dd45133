"""Continuations: where they begin, and how long they agree with the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine import Session
from quantrecipe.evaluate.compact import compact
from quantrecipe.evaluate.continuations import (
    LENGTHS,
    Continuations,
    continuation_figures,
    continue_texts,
    places_of,
)
from quantrecipe.evaluate.reference import Reference, ScoredText, write_reference

N_CTX, CHUNKS = 16, 30


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    tokens = np.random.default_rng(0).integers(0, 9, (CHUNKS, N_CTX)).astype(np.int32)
    made = Reference(
        path=tmp_path / "r",
        model="m.gguf",
        key="",
        n_ctx=N_CTX,
        n_vocab=9,
        vocabulary="same",
        tail=0.0,
        texts=(ScoredText(name="t", digest="", chunks=CHUNKS),),
        tokens=tokens,
    )
    logits = np.zeros((made.scored, 9), np.float32)
    write_reference(made, [compact(logits, targets) for targets in made.targets])
    return made


class GoesOn:
    """Goes on with 0, 1, 2, … from the sum of what it read; knows what it was given."""

    path, n_vocab = Path("m.gguf"), 9

    def __init__(self, first: int | None = None) -> None:
        self.first_token = first
        self.read: list[list[int]] = []

    def vocabulary(self, tokens: NDArray[np.int32]) -> str:
        return "same"

    def generate(self, prompts: Sequence[NDArray[np.int32]], n: int) -> Iterator[NDArray[np.int32]]:
        for prompt in prompts:
            self.read.append(prompt.tolist())
            yield (np.arange(n) + prompt.sum()).astype(np.int32)


def test_places_are_all_over_the_texts(reference: Reference) -> None:
    assert places_of(reference, 4) == (0, 9, 19, 29)
    assert places_of(reference, 99) == tuple(range(CHUNKS))
    assert places_of(reference, 1) == (0,)


@pytest.mark.parametrize("first", [None, 7])
def test_models_go_on_after_the_first_half_of_a_chunk(reference: Reference, first: int | None) -> None:
    model, told = GoesOn(first), list[tuple[int, int]]()
    said = continue_texts(
        cast(Any, _Open(model)), reference, (2, 5), progress=lambda done, total: told.append((done, total))
    )
    halves = [reference.tokens[place, : N_CTX // 2].tolist() for place in (2, 5)]
    if first is not None:  # as where chunks are run
        halves = [[first, *half[1:]] for half in halves]
    assert model.read == halves
    assert said.places == (2, 5)
    assert [len(its) for its in said.tokens] == [LENGTHS[-1]] * 2
    assert told == [(1, 2), (2, 2)]


class _Open(Session):
    """A session in this process."""

    def __init__(self, model: GoesOn) -> None:
        self.model = model

    def call(self, function: Any, *arguments: Any, hear: Any = None) -> Any:
        return function(self.model, *arguments, tell=hear or (lambda done: None))


def said(*texts: Sequence[int]) -> Continuations:
    return Continuations(places=tuple(range(len(texts))), tokens=tuple(map(tuple, texts)))


def test_the_figures() -> None:
    own = list(range(128))
    late = [*range(40), *[999] * 88]
    early = [999, *range(1, 128)]
    reference = said(own, own, own, own)
    figures = continuation_figures(said(own, late, early, own[:20]), reference)
    short, long = figures.agreement
    assert (short.length, long.length) == (32, 128)
    assert short.same.value == pytest.approx((1 + 1 + 31 / 32 + 20 / 32) / 4)
    assert long.same.value == pytest.approx((1 + 40 / 128 + 127 / 128 + 20 / 128) / 4)
    assert short.until.value == pytest.approx((32 + 32 + 0 + 20) / 4)
    assert long.until.value == pytest.approx((128 + 40 + 0 + 20) / 4)
    assert (short.whole.value, long.whole.value) == (0.5, 0.25)
    assert figures.beside is None


def test_beside_the_first_file_the_differences_count() -> None:
    own = [list(range(n, n + 128)) for n in range(20)]
    reference = said(*own)
    first = said(*([*its[: 10 + n], *[-1] * (118 - n)] for n, its in enumerate(own)))
    later = said(*([*its[: 15 + n], *[-1] * (113 - n)] for n, its in enumerate(own)))
    beside = continuation_figures(later, reference, first).beside
    assert beside is not None and beside.known is not None
    assert beside.value == pytest.approx(5)
    assert beside.known == pytest.approx((5, 5))
