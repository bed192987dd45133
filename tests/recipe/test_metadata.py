"""Metadata of a recipe: YAML values become typed GGUF values."""

from __future__ import annotations

from typing import Any

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.metadata import METADATA_TYPES
from quantrecipe.registry import Registry


def metadata(value: str, registry: Registry, key: str = "k") -> GGUFValue:
    recipe = load_recipe_text(f"quantrecipe: 1\nmetadata:\n  {key}: {value}", registry=registry)
    return recipe.metadata[key]


@pytest.mark.parametrize(
    ("value", "type_", "plain"),
    [
        ("Ada", ValueType.STRING, "Ada"),
        ("yes", ValueType.STRING, "yes"),
        ("true", ValueType.BOOL, True),
        ("7", ValueType.UINT32, 7),
        ("-7", ValueType.INT32, -7),
        ("4294967296", ValueType.INT64, 2**32),
        ("18446744073709551615", ValueType.UINT64, 2**64 - 1),
        ("0.5", ValueType.FLOAT32, 0.5),
        ("{type: u8, value: 255}", ValueType.UINT8, 255),
        ("{type: i64, value: -1}", ValueType.INT64, -1),
        ("{type: f32, value: 2}", ValueType.FLOAT32, 2.0),
        ("{type: f64, value: 0.1}", ValueType.FLOAT64, 0.1),
        ("{type: str, value: mit}", ValueType.STRING, "mit"),
    ],
)
def test_a_value_and_its_type(value: str, type_: ValueType, plain: Any, registry: Registry) -> None:
    assert metadata(value, registry) == GGUFValue.of(type_, plain)


@pytest.mark.parametrize(
    ("value", "type_", "plain"),
    [
        ("[a, b]", ValueType.STRING, ["a", "b"]),
        ("[1, -2]", ValueType.INT32, [1, -2]),
        ("[1, 0.5]", ValueType.FLOAT32, [1, 0.5]),
        ("[true]", ValueType.BOOL, [True]),
        ("{type: u16, value: [1, 2]}", ValueType.UINT16, [1, 2]),
        ("{type: u16, value: []}", ValueType.UINT16, []),
    ],
)
def test_a_list_and_the_type_of_its_items(
    value: str, type_: ValueType, plain: list[Any], registry: Registry
) -> None:
    assert metadata(value, registry) == GGUFValue.array(type_, plain)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "[]",
            "[a, 1]",
            "[true, 1]",
            "[[1]]",
            "18446744073709551616",
            "1e300",
            "{type: u8, value: 256}",
        ),
        *(
            "{type: u8, value: -1}",
            "{type: u8, value: 1.5}",
            "{type: u8, value: true}",
            "{type: bool, value: 1}",
        ),
        *(
            "{type: str, value: 1}",
            "{type: u7, value: 1}",
            "{type: u8}",
            "{value: 1}",
            "{type: u8, value: 1, x: 2}",
        ),
        "{type: i8, value: [1, a]}",
    ],
)
def test_values_that_fit_no_type_are_refused(value: str, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        metadata(value, registry)
    assert caught.value.problems[0].line == 3


@pytest.mark.parametrize(
    "key",
    [
        *("general.file_type", "general.quantization_version", "general.alignment", "general.architecture"),
        *("quantrecipe.recipe", "quantize.imatrix.file", "split.no"),
    ],
)
def test_keys_that_quantrecipe_sets_itself_are_refused(key: str, registry: Registry) -> None:
    with pytest.raises(RecipeError, match="can't be set"):
        metadata("1", registry, key)


@pytest.mark.parametrize("key", ["'a b'", "'a..b'", "'é'", "'.a'", "a" * 300])
def test_keys_are_names_and_dots(key: str, registry: Registry) -> None:
    with pytest.raises(RecipeError, match="names and dots"):
        metadata("1", registry, key)


def test_every_scalar_type_has_a_name() -> None:
    assert set(METADATA_TYPES.values()) == set(ValueType) - {ValueType.ARRAY}
