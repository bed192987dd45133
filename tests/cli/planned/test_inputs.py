"""PlanInputs: whose importance matrix counts, and that files are read once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def model(tmp_path: Path, registry: Registry) -> Model:
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=1), llama_metadata(block_count=1))
    return open_model(tmp_path / "model.gguf", registry=registry)


@pytest.fixture
def recipe(registry: Registry) -> Recipe:
    from quantrecipe.recipe.load import load_recipe

    return load_recipe("llama.cpp/Q4_K_M", registry=registry)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The matrices that were read, in order."""
    import quantrecipe.importance.read_importance as part

    found: list[Path] = []
    real = part.read_importance

    def recorded(path: Path) -> object:
        found.append(path)
        return real(path)

    monkeypatch.setattr(part, "read_importance", recorded)
    return found


def matrix(path: Path) -> Path:
    return write_gguf_imatrix(path, {"blk.0.attn_q.weight": (np.ones((1, 256), np.float32), [1.0])})


def test_the_command_line_s_matrix_comes_before_the_recipe_s(
    tmp_path: Path, registry: Registry, model: Model, recipe: Recipe, reads: list[Path]
) -> None:
    mine, theirs = matrix(tmp_path / "mine.gguf"), matrix(tmp_path / "theirs.gguf")
    named = replace(recipe, importance=replace(recipe.importance, file=theirs))
    PlanInputs(registry=registry, imatrix=mine).importance(named, model)
    PlanInputs(registry=registry).importance(named, model)
    assert PlanInputs(registry=registry).importance(recipe, model) is None
    assert reads == [mine, theirs]


def test_a_matrix_is_read_once_for_all_recipes(
    tmp_path: Path, registry: Registry, model: Model, recipe: Recipe, reads: list[Path]
) -> None:
    inputs = PlanInputs(registry=registry, imatrix=matrix(tmp_path / "mine.gguf"))
    assert inputs.importance(recipe, model) is inputs.importance(recipe, model)
    assert len(reads) == 1
    assert replace(inputs, strict=True).importance(recipe, model) is not None
    assert len(reads) == 2


def test_an_assumed_matrix_covers_layers_and_is_no_file(
    registry: Registry, model: Model, recipe: Recipe, reads: list[Path]
) -> None:
    assumed = PlanInputs(registry=registry, assume_imatrix=True).importance(recipe, model)
    assert assumed is not None
    assert all(assumed.covers(tensor) for tensor in model.tensors if tensor.role == "ffn_down")
    assert not reads


def test_settings_reach_the_plan(registry: Registry, model: Model, recipe: Recipe) -> None:
    resolution = PlanInputs(registry=registry, strict=True, provenance=False).resolve(recipe, model)
    settings = resolution.settings
    assert (settings.strict, settings.provenance, settings.allow_requantize) == (True, False, False)
    assert PlanInputs(registry=registry).plan(recipe, model).recipe == "Q4_K_M"
