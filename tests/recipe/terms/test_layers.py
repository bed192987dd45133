"""Which layers a text stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.layers import LayerSet


@pytest.mark.parametrize(
    ("text", "n_layers", "expected"),
    [
        ("7", 12, [7]),
        ("0-3", 12, [0, 1, 2, 3]),
        ("0 - 3", 12, [0, 1, 2, 3]),
        ("first 2", 12, [0, 1]),
        ("first 20", 12, list(range(12))),
        ("last 2", 12, [10, 11]),
        ("last 20", 12, list(range(12))),
        ("first 1/8", 32, [0, 1, 2, 3]),
        ("first 1/8", 36, [0, 1, 2, 3]),
        ("first 1/8", 7, []),
        ("last 1/8", 32, [28, 29, 30, 31]),
        ("last 1/8", 36, [31, 32, 33, 34, 35]),
        ("last 1/8", 4, [3]),
        ("first 1 / 4", 8, [0, 1]),
        ("every 3 from 2", 12, [2, 5, 8, 11]),
        ("every 5", 12, [0, 5, 10]),
        ("first 1, last 1, 4-5, 4", 12, [0, 4, 5, 11]),
        ("  first   1 ,last 1", 12, [0, 11]),
        ("12", 12, []),
    ],
)
def test_the_layers_of_a_text(text: str, n_layers: int, expected: list[int]) -> None:
    assert list(LayerSet.parse(text).members(n_layers)) == expected


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 32))
def test_fractions_split_the_layers_without_gap_or_overlap(n_layers: int, part: int, more: int) -> None:
    parts = part + more
    first = set(LayerSet.parse(f"first {part}/{parts}").members(n_layers))
    last = set(LayerSet.parse(f"last {more}/{parts}").members(n_layers))
    assert not first & last
    assert first | last == set(range(n_layers))


@given(st.integers(0, 200))
def test_eighths_are_llama_cpps(n_layers: int) -> None:
    first, last = LayerSet.parse("first 1/8"), LayerSet.parse("last 1/8")
    for layer in range(n_layers):
        assert first.contains(layer, n_layers) == (layer < n_layers // 8)
        assert last.contains(layer, n_layers) == (layer >= 7 * n_layers // 8)


def test_numbers_reach_blocks_for_next_token_prediction_and_counts_do_not() -> None:
    assert LayerSet.parse("46").members(46, n_blocks=47) == (46,)
    assert LayerSet.parse("last 1").members(46, n_blocks=47) == (45,)
    assert 46 not in LayerSet.parse("every 1").members(46, n_blocks=47)


def test_nothing_outside_the_blocks_is_in_a_layer() -> None:
    assert not LayerSet.parse("every 1").contains(None, 12)


def test_items_beyond_the_model_are_named() -> None:
    layers = LayerSet.parse("3, 40, 0-79, first 80, last 2, last 1/8, every 3 from 50")
    assert layers.beyond(32) == ("40", "0-79", "first 80", "every 3 from 50")
    assert layers.beyond(80) == ()


def test_the_text_is_in_one_spelling() -> None:
    assert str(LayerSet.parse(" first  4,last 1 / 8,3-3, every 2")) == "first 4, last 1/8, 3, every 2 from 0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frist 4", "write one of: 7, 0-3"),
        ("", "write one of"),
        ("1,,2", "write one of"),
        ("3:6", "write one of"),
        ("-3", "write one of"),
        ("first", "write one of"),
        ("first 1/0", "more than all"),
        ("first 3/2", "more than all"),
        ("first 0", "are none"),
        ("every 0", "never get on"),
        ("6-3", "write 3-6"),
        ("9999999", "write one of"),
        ("٣", "write one of"),
    ],
)
def test_what_is_no_list_of_layers(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        LayerSet.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="0123456789 -/,firstlaevyom", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_list_of_layers_or_a_recipe_error(text: str) -> None:
    try:
        layers = LayerSet.parse(text)
    except RecipeError:
        return
    assert LayerSet.parse(str(layers)) == layers
    assert set(layers.members(16)) <= set(range(16))
