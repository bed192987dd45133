"""Whole models, planned from shape files: the types are those in llama.cpp's own tables.

The tables are its tests/snapshots/*.schema; the shapes are the reference models. See tests/data/shapes/README.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.assign import choose_format
from quantrecipe.plan.resolution import resolve
from quantrecipe.plan.trace import is_matrix
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/shapes"
TABLES = {path.stem: json.loads(path.read_text()) for path in sorted((DATA / "snapshots").glob("*.json"))}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def presets(registry: Registry) -> dict[str, Recipe]:
    return {name: load_recipe(f"llama.cpp/{name}", registry=registry) for name in TABLES["qwen3-0.6b"]}


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
    resolution = resolve(recipe, model, registry)
    return {
        d.tensor.name: choose_format(d, resolution).format.spec.name
        for d in resolution.decisions
        if is_matrix(d.tensor) and not d.because.endswith("(kept)")
    }


def test_there_are_tables_of_twelve_models_and_thirty_three_mixtures() -> None:
    assert len(TABLES) == 12
    assert {len(table) for table in TABLES.values()} == {33}


@pytest.mark.parametrize(
    ("name", "third"),
    # By default each model meets a third of the mixtures, and each mixture a third of the models; .ci/run tries all.
    [
        pytest.param(name, third, marks=[pytest.mark.slow] if (number + third) % 3 else [])
        for number, name in enumerate(TABLES)
        for third in range(3)
    ],
)
def test_a_model_gets_the_types_of_llama_cpps_table(
    name: str, third: int, presets: dict[str, Recipe], registry: Registry
) -> None:
    model = open_model(f"shapes/{name}")
    wrong = {}
    for preset, row in [*TABLES[name].items()][third::3]:
        found, expected = chosen(presets[preset], model, registry), special(row)
        default = re.match(r"\w+", row)[0]  # type: ignore[index]  # every row begins with one
        assert expected.keys() <= found.keys(), "tensors of the table that the shapes lack"
        wrong |= {
            (preset, tensor): (type_, expected.get(tensor, default))
            for tensor, type_ in found.items()
            if type_ != expected.get(tensor, default)
        }
    assert not wrong, "(mixture, tensor): (ours, llama.cpp's)"
