"""The beginning of a long text as tokens: what all of the text has there, of a part of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.engine import first_tokens as module
from quantrecipe.engine.first_tokens import first_tokens

Tokens = NDArray[np.int32]
LINES = "".join(f"{number}: a line of words, no {number % 7}\n" for number in range(20_000)).encode()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are long sooner."""
    monkeypatch.setattr(module, "_SMALL", 1000)
    monkeypatch.setattr(module, "_MARGIN", 64)


@dataclass
class Model:
    """How a text is cut, and how much of it was."""

    cut: Callable[[bytes], list[bytes]]
    lengths: list[int] = field(default_factory=list)

    def tokenize(self, text: bytes, *, special: bool = False) -> Tokens:
        assert special
        self.lengths.append(len(text))
        return np.array([int.from_bytes(word[:3], "big") + len(word) for word in self.cut(text)], np.int32)


def words(text: bytes) -> list[bytes]:
    return re.findall(rb"\s+(?!\S)|\s?\w{1,5}|\s?[^\s\w]+|\s+", text)


def by_the_whole(text: bytes) -> list[bytes]:
    """Of which every token depends on where the text ends."""
    return [bytes([len(text) % 251]), *words(text)]


def letters(text: bytes) -> list[bytes]:
    return [text[place : place + 1] for place in range(len(text))]


@pytest.mark.parametrize("cut", [words, by_the_whole, letters])
@pytest.mark.parametrize("most", [1, 100, 5000, 70_000, 10**7])
def test_they_are_those_of_the_whole_text(cut: Callable[[bytes], list[bytes]], most: int) -> None:
    whole = Model(cut).tokenize(LINES, special=True)
    found = first_tokens(Model(cut), LINES, most, special=True)
    assert np.array_equal(found, whole[:most])


def test_no_more_of_the_text_is_cut_than_is_needed() -> None:
    model = Model(words)
    found = first_tokens(model, LINES, 100, special=True)
    assert len(found) == 100
    assert max(model.lengths) < 100_000 < len(LINES)
    assert LINES[model.lengths[0] - 1 : model.lengths[0]] == b"\n"


def test_a_part_that_is_too_short_is_longer_the_next_time() -> None:
    """Words of many bytes: the first part has too few."""
    model = Model(lambda text: re.findall(rb"\S+\s*", text))
    text = b"".join(b"x" * 200 + b" \n" for _ in range(5000))
    assert len(first_tokens(model, text, 2000, special=True)) == 2000
    assert model.lengths == sorted(model.lengths)
    assert max(model.lengths) < len(text)


def test_where_the_end_of_a_part_counts_all_of_it_is_cut() -> None:
    model = Model(by_the_whole)
    first_tokens(model, LINES, 100, special=True)
    assert model.lengths[-1] == len(LINES)


def test_a_part_ends_between_characters_where_there_are_no_lines() -> None:
    text = "я" * 100_000
    model = Model(lambda part: [it.encode() for it in part.decode()])
    assert len(first_tokens(model, text.encode(), 50, special=True)) == 50
    assert max(model.lengths) < len(text)


@pytest.mark.parametrize("most", [None, 3])
def test_a_short_text_and_all_of_a_text_are_cut_once(most: int | None) -> None:
    text = LINES if most is None else LINES[:500]
    model = Model(words)
    found = first_tokens(model, text, most, special=True)
    assert model.lengths == [len(text)]
    assert len(found) == (most or len(words(text)))
