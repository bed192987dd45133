"""Whole models, planned from shape files: the types are those in llama.cpp's own tables.

The tables are its tests/snapshots/*.schema; the shapes come from the models' public configurations, through
tools/make_shapes.py. See tests/data/shapes/README.md.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes, shapes_text
from quantrecipe.plan.assign import choose_format, kept_type
from quantrecipe.plan.resolve import is_matrix, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "tests/data/shapes"
TABLES = {path.stem: json.loads(path.read_text()) for path in sorted((SHAPES / "snapshots").glob("*.json"))}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def presets(registry: Registry) -> dict[str, Recipe]:
    return {name: load_recipe(f"llama.cpp/{name}", registry=registry) for name in TABLES["qwen3-0.6b"]}


@pytest.fixture(scope="module")
def make_shapes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_shapes", ROOT / "tools/make_shapes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def special(row: str) -> dict[str, str]:
    """The tensors with another type than the mixture's default: "blk.3.attn_v.weight" → "Q6_K"."""
    found = {}
    for type_, *names in map(str.split, row.split("; ")[1:]):
        for name in names:
            role, _, layers = name.partition(":")
            if not layers:
                found[f"{role}.weight"] = type_
            for layer in filter(None, layers.split(",")):
                first, _, last = layer.partition("-")
                found |= {f"blk.{n}.{role}.weight": type_ for n in range(int(first), int(last or first) + 1)}
    return found


def chosen(recipe: Recipe, model: Model, registry: Registry) -> dict[str, str]:
    """The types of the tensors that the recipe doesn't keep."""
    decisions = resolve(recipe, model, has_importance=False, covered=lambda _: False)
    return {
        d.tensor.name: choose_format(
            d, recipe, model, registry, strict=False, allow_requantize=False
        ).format.spec.name
        for d in decisions
        if is_matrix(d.tensor) and not d.because.endswith("(kept)")
    }


def test_there_are_tables_of_twelve_models_and_thirty_three_mixtures() -> None:
    assert len(TABLES) == 12
    assert {len(table) for table in TABLES.values()} == {33}


@pytest.mark.parametrize("name", TABLES)
def test_a_model_gets_the_types_of_llama_cpps_table(
    name: str, presets: dict[str, Recipe], registry: Registry
) -> None:
    model = open_shapes(SHAPES / f"{name}.json")
    wrong = {}
    for preset, row in TABLES[name].items():
        found, expected = chosen(presets[preset], model, registry), special(row)
        default = re.match(r"\w+", row)[0]  # type: ignore[index]  # every row begins with one
        assert expected.keys() <= found.keys(), "tensors of the table that the shapes lack"
        wrong |= {
            (preset, tensor): (type_, expected.get(tensor, default))
            for tensor, type_ in found.items()
            if type_ != expected.get(tensor, default)
        }
    assert not wrong, "(mixture, tensor): (ours, llama.cpp's)"


@pytest.mark.parametrize("name", TABLES)
def test_shapes_are_made_of_the_public_configuration(name: str, make_shapes: ModuleType) -> None:
    model = make_shapes.make_model(json.loads((SHAPES / f"configs/{name}.json").read_text()))
    text = shapes_text(model, {t.name: kept_type(t, model) for t in model.tensors})
    assert text == (SHAPES / f"{name}.json").read_text()


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-0.6b", 0.751632384),  # with the stored head
        ("qwen3-14b", 14.768307200),
        ("meta-llama-3.1-70b-instruct", 70.553706496),
        ("gpt-oss-120b", 116.829156672),
        ("deepseek-v3.1", 671.026419200),  # without the MTP layer
        ("qwen3-coder-next", 79.674391296),
        ("nvidia-nemotron-3-nano-30b-a3b", 31.577940288),
    ],
)
def test_the_weights_add_up_to_what_the_publisher_says(name: str, billions: float) -> None:
    model = open_shapes(SHAPES / f"{name}.json")
    assert sum(tensor.size for tensor in model.tensors) == round(billions * 1e9)
