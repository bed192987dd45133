"""A recipe held against a model: one value that plans are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import PlanError
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import ImportanceSource
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("resolution") / "m.gguf"
    return open_model(write_gguf(path, llama_tensors(layers=4), llama_metadata(block_count=4)))


def matrix(folder: Path) -> Importance:
    entries = {
        f"blk.{i}.{role}.weight": (np.ones((1, 256), np.float32), [1.0])
        for i in range(4)
        for role in ("attn_q", "attn_v")
    }
    return read_importance(write_gguf_imatrix(folder / "m.gguf", entries))


def test_what_is_selected_and_what_is_left_after_pruning(
    model: Model, tmp_path: Path, registry: Registry
) -> None:
    importance = matrix(tmp_path)
    chosen = ImportanceSource(include=("attn_v",))
    found = resolve(
        recipe(default="Q4_K", prune=LayerSet.parse("0"), importance=chosen), model, registry, importance
    )
    assert found.selected is not None
    assert found.importance is not None
    assert set(found.selected.entries) == {f"blk.{i}.attn_v.weight" for i in range(4)}
    assert found.covered == set(found.importance.entries) == {f"blk.{i}.attn_v.weight" for i in range(3)}
    assert found.old_names["blk.0.attn_v.weight"] == "blk.1.attn_v.weight"
    assert found.old_names["output.weight"] == "output.weight"
    assert set(found.of_layers) == {"llama.block_count"}
    assert len(found.model.tensors) == len(found.decisions) == len(model.tensors) - 9


@pytest.mark.parametrize(
    ("chosen", "same"), [({}, True), ({"include": ("nothing",)}, False), ({"exclude": ("attn",)}, False)]
)
def test_nothing_selected_is_no_matrix(
    model: Model, tmp_path: Path, registry: Registry, chosen: dict[str, tuple[str, ...]], same: bool
) -> None:
    importance = matrix(tmp_path)
    mix = recipe(default="Q4_K", importance=ImportanceSource(**chosen))  # type: ignore[arg-type]  # texts
    found = resolve(mix, model, registry, importance)
    assert (found.selected is importance) == same
    assert (found.importance is None) != same
    assert bool(found.covered) == same


def test_a_matrix_that_isn_t_there(model: Model, registry: Registry) -> None:
    """What would be if it were."""
    mix = recipe(rule("attn_v", "Q6_K", when="covered"), default="Q4_K")
    found = resolve(mix, model, registry, covered=lambda tensor: tensor.layer == 2)
    types = {it.tensor.name: it.type for it in found.decisions if it.tensor.role == "attn_v"}
    assert [types[f"blk.{i}.attn_v.weight"] for i in range(4)] == ["Q4_K", "Q4_K", "Q6_K", "Q4_K"]
    assert {name.split(".")[1] for name in found.covered} == {"2"}


def test_ranks_go_by_the_order_that_is_given(model: Model, registry: Registry) -> None:
    mix = recipe(rule("attn_v", "Q6_K", when="rank == 0"), default="Q4_K")

    def first(order: tuple[str, ...]) -> list[str]:
        found = resolve(mix, model, registry, order=order).decisions
        return [it.tensor.name for it in found if it.type == "Q6_K"]

    assert first(()) == ["blk.0.attn_v.weight"]
    assert first(("blk.2.attn_v.weight", "blk.1.attn_v.weight")) == ["blk.2.attn_v.weight"]
    assert first(("blk.1.attn_q.weight",)) == ["blk.0.attn_v.weight"]


def test_shards_of_the_source_decide_the_order(model: Model, registry: Registry) -> None:
    """Pruned layers' tensors are in none, and the others keep theirs under their new names."""
    shards = {t.name: 0 if t.layer == 3 else 1 for t in model.tensors}
    settings = PlanSettings(split=SplitLimits(shards=shards, max_tensors=5))
    mix = recipe(rule("attn_v", "Q6_K", when="rank == 0"), default="Q4_K", prune=LayerSet.parse("0"))
    found = resolve(mix, model, registry, settings=settings)
    assert [it.tensor.name for it in found.decisions if it.type == "Q6_K"] == ["blk.2.attn_v.weight"]
    assert found.settings.split is not None
    assert found.settings.split.max_tensors == 5
    assert found.settings.split.shards is not None
    assert set(found.settings.split.shards) == {t.name for t in found.model.tensors}
    assert found.settings.split.shards["blk.2.attn_v.weight"] == 0
    assert found.settings.split.shards["blk.1.attn_v.weight"] == 1


def test_what_is_open_until_it_is_chosen(model: Model, registry: Registry) -> None:
    text = (
        "quantrecipe: 1\nname: x\nbudget: {bpw: 4.5}\ndefault: Q8_0\nrules:\n"
        "  - {tensors: attn_v, choose: [Q4_K, Q6_K], why: x}\n"
    )
    found = resolve(load_recipe_text(text, registry=registry), model, registry)
    assert {it.tensor.role for it in found.open} == {"attn_v"}
    assert len(found.open) == 4
    settled = replace(found, chosen={it.tensor.name: "Q6_K" for it in found.open[1:]})
    assert [it.tensor.name for it in settled.open] == ["blk.0.attn_v.weight"]
    decided = {it.tensor.name: it for it in settled.decisions}
    one = decided["blk.1.attn_v.weight"]
    assert (one.type, one.because) == ("Q6_K", "recipe.yaml:6 (chosen)")
    assert not decided["output.weight"].because.endswith("(chosen)")


def test_a_rule_that_can_t_do_anything_is_refused_where_the_decisions_are_asked_for(
    model: Model, registry: Registry
) -> None:
    """A recipe that doesn't plan yet can still be looked at."""
    found = resolve(recipe(rule("attn_z", "Q6_K"), default="Q4_K"), model, registry)
    assert found.trace
    with pytest.raises(PlanError, match="no tensor of this model is named by 'attn_z'"):
        assert found.decisions


def test_settings_unless_others_are_given(model: Model, registry: Registry) -> None:
    found = resolve(recipe(default="Q4_K"), model, registry)
    assert found.settings == PlanSettings(strict=False, allow_requantize=False, provenance=True, split=None)
