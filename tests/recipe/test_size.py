"""Sizes as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.size import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("500M", 500_000_000),
        ("500 mb", 500_000_000),
        ("48G", 48_000_000_000),
        ("4.5GiB", 4_831_838_208),
        ("5.2GiB", 5_583_457_484),
        ("2KiB", 2048),
        ("1TiB", 2**40),
        (" 0.5T ", 500_000_000_000),
        ("0.7K", 700),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "G", "-1", "1.", ".5G", "5 Gi", "1e9", "5GiBs", "٣G", "1" * 40])
def test_no_sizes(text: str) -> None:
    with pytest.raises(RecipeError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "0.0GiB", "0.4"])
def test_nothing_is_no_size(text: str) -> None:
    with pytest.raises(RecipeError, match="more than nothing"):
        parse_size(text)


@given(st.text())
def test_any_text_is_a_size_or_an_error(text: str) -> None:
    with suppress(RecipeError):
        assert parse_size(text) > 0
