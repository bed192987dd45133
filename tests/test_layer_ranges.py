"""Numbers of layers become text, and the text becomes the numbers again."""

from __future__ import annotations

from itertools import islice

import pytest

from quantrecipe.layer_ranges import layer_ranges, layer_runs, read_layer_ranges


@pytest.mark.parametrize(
    ("layers", "text"),
    [([], ""), ([3], "3"), ([2, 0, 1], "0-2"), ([0, 1, 5, 7, 8, 9], "0-1, 5, 7-9"), ([4, 4, 3], "3-4")],
)
def test_there(layers: list[int], text: str) -> None:
    assert layer_ranges(layers) == text


def test_runs() -> None:
    assert layer_runs([7, 0, 2, 1]) == [(0, 2), (7, 7)]


@pytest.mark.parametrize(
    ("text", "layers"), [("3", [3]), ("0-2, 7", [0, 1, 2, 7]), ("5-5,0", [5, 0]), (" 1 ,2-3 ", [1, 2, 3])]
)
def test_and_back(text: str, layers: list[int]) -> None:
    assert list(read_layer_ranges(text)) == layers


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1-", "1--2", "0, ,1", "1.5", "٣", "1" * 10])
def test_what_isnt_like_that_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="layers"):
        list(read_layer_ranges(text))


def test_billions_are_not_made_at_once() -> None:
    assert list(islice(read_layer_ranges("0-999999999"), 2)) == [0, 1]
