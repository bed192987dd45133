"""Options of a rule are checked against the schema of its format."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from quantrecipe.api import FormatSpec, QuantFormat
from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Rule
from quantrecipe.registry import Registry


class Tunable(QuantFormat):
    """A format with options."""

    spec = FormatSpec(name="TUNABLE", ggml_type=999, block=32, block_bytes=34)
    option_schema = MappingProxyType(
        {
            "steps": {"type": "integer", "minimum": 1, "maximum": 64, "default": 8},
            "grid": {"type": "array", "items": {"type": "number"}},
        }
    )

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        raise NotImplementedError

    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        raise NotImplementedError


def rule(options: str, registry: Registry) -> Rule:
    formats = MappingProxyType({**registry.formats, "TUNABLE": Tunable()})
    with_it = Registry(
        formats=formats, analyses={}, recipe_folders=registry.recipe_folders, plugins=registry.plugins
    )
    text = f"quantrecipe: 1\nrules:\n  - tensors: a\n    type: TUNABLE\n    options: {options}"
    recipe = load_recipe_text(text, registry=with_it)
    assert load_recipe_text(recipe.text, registry=with_it).digest == recipe.digest
    return recipe.rules[0]


def test_options_are_kept_as_frozen_values(registry: Registry) -> None:
    assert rule("{steps: 12, grid: [0.5, 1]}", registry).options == {"steps": 12, "grid": (0.5, 1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{steps: 100}", ":5: option steps: 100 is greater than the maximum of 64"),
        ("{steps: many}", ":5: option steps: 'many' is not of type 'integer'"),
        ("{grid: [a]}", ":5: option grid: 'a' is not of type 'number'"),
        ("{stepz: 3}", ":5: TUNABLE has no option 'stepz'; did you mean 'steps'?"),
        ("{x: 3}", "its options: grid, steps"),
        ("[steps]", "options must be a mapping"),
    ],
)
def test_options_that_the_format_does_not_take(options: str, message: str, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        rule(options, registry)
    assert message in str(caught.value)
