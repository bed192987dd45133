"""A recipe held against a model: what is refused when, which importance counts, in which order tensors are ranked."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from quantrecipe.errors import PlanError
from quantrecipe.importance.assumed import assumed_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open import open_model
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.resolution import PlanSettings, Resolution, resolve
from quantrecipe.plan.trace import covers_all
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[1] / "data/shapes/zoo"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def llama() -> Model:
    """A dense model of 32 layers."""
    return open_model(ZOO / "llama-32.json")


def resolved(text: str, model: Model, registry: Registry, **more: object) -> Resolution:
    recipe = load_recipe_text(f"quantrecipe: 1\n{text}\n", registry=registry)
    return resolve(recipe, model, registry, **more)  # type: ignore[arg-type]  # as given


def type_of(resolution: Resolution, name: str) -> str:
    return next(it.type for it in resolution.decisions if it.tensor.name == f"{name}.weight")


class TestProblems:
    def test_a_rule_that_can_do_nothing_is_refused_where_decisions_are_asked_for(
        self, llama: Model, registry: Registry
    ) -> None:
        found = resolved("default: Q4_K\nrules: [{tensors: attn_vv, type: Q6_K}]", llama, registry)
        assert found.trace.decision(llama.tensors[0]).because
        with pytest.raises(PlanError, match="attn_vv"):
            _ = found.decisions

    def test_layers_that_can_t_be_pruned_are_refused_at_once(self, llama: Model, registry: Registry) -> None:
        with pytest.raises(PlanError, match=re.escape("layers 0-31")):
            resolved("default: Q4_K\nprune: 40", llama, registry)


class TestImportance:
    TEXT = """
default: Q4_K
rules:
  - {tensors: attn_v, when: covered, type: IQ2_XXS}
  - {tensors: attn_k, when: has_importance, type: IQ3_S}
"""

    def test_without_a_matrix(self, llama: Model, registry: Registry) -> None:
        text = self.TEXT.replace("type: IQ", "optional: true, type: IQ")
        found = resolved(text, llama, registry)
        assert (found.importance, found.selected, found.covered) == (None, None, frozenset())
        assert {type_of(found, "blk.3.attn_v"), type_of(found, "blk.3.attn_k")} == {"Q4_K"}

    def test_as_if_there_were_one(self, llama: Model, registry: Registry) -> None:
        found = resolved(self.TEXT, llama, registry, covered=covers_all)
        assert found.importance is None
        assert found.covered == {tensor.name for tensor in llama.tensors}
        assert (type_of(found, "blk.3.attn_v"), type_of(found, "blk.3.attn_k")) == ("IQ2_XXS", "IQ3_S")

    def test_what_the_recipe_leaves_out_doesn_t_count(self, llama: Model, registry: Registry) -> None:
        text = f"{self.TEXT}\nimportance: {{exclude: [blk.3.attn]}}"
        found = resolved(text, llama, registry, importance=assumed_importance(llama.tensors))
        assert "blk.3.attn_v.weight" not in found.covered
        assert (type_of(found, "blk.2.attn_v"), type_of(found, "blk.3.attn_v")) == ("IQ2_XXS", "Q4_K")

    def test_it_follows_its_layer_where_others_are_pruned(self, llama: Model, registry: Registry) -> None:
        text = f"{self.TEXT}\nprune: 1-4\nimportance: {{exclude: [blk.7.attn]}}"
        found = resolved(text, llama, registry, importance=assumed_importance(llama.tensors))
        assert found.old_names["blk.3.attn_v.weight"] == "blk.7.attn_v.weight"
        assert "blk.3.attn_v.weight" not in found.covered
        assert "blk.7.attn_v.weight" in found.covered
        assert found.selected is not None
        assert "blk.31.attn_v.weight" in found.selected.entries  # as people have it, whose digest is recorded


class TestOrder:
    def test_by_layer_and_name(self, llama: Model, registry: Registry) -> None:
        names = [tensor.name for tensor in resolved("default: Q4_K", llama, registry).trace.tensors]
        assert names.index("output.weight") < names.index("blk.0.attn_k.weight")
        assert names.index("blk.2.attn_k.weight") < names.index("blk.10.attn_k.weight")

    def test_as_it_is_asked_for(self, llama: Model, registry: Registry) -> None:
        order = ["blk.9.attn_v.weight", "output.weight"]
        names = [t.name for t in resolved("default: Q4_K", llama, registry, order=order).trace.tensors]
        assert names[:2] == order
        assert sorted(names) == sorted(tensor.name for tensor in llama.tensors)

    def test_as_the_shards_that_are_kept(self, llama: Model, registry: Registry) -> None:
        shards = {t.name: 0 if t.layer == 9 else 1 for t in llama.tensors}
        settings = PlanSettings(split=SplitLimits(shards=shards))
        found = resolved("default: Q4_K\nprune: 0-2", llama, registry, settings=settings)
        layers = [tensor.layer for tensor in found.trace.tensors]
        assert set(layers[: layers.count(6)]) == {6}  # layer 9 is the sixth now
        assert found.settings.split is not None
        assert found.settings.split.shards is not None
        assert found.settings.split.shards["blk.6.attn_v.weight"] == 0


class TestChoices:
    TEXT = "default: Q4_K\nrules: [{tensors: attn_v, choose: [Q4_K, Q6_K]}]"

    def test_they_are_open(self, llama: Model, registry: Registry) -> None:
        found = resolved(self.TEXT, llama, registry)
        assert {it.tensor.role for it in found.open} == {"attn_v"}
        assert len(found.open) == 32

    def test_and_settled_by_what_was_chosen(self, llama: Model, registry: Registry) -> None:
        found = resolved(self.TEXT, llama, registry)
        chosen = {it.tensor.name: "Q6_K" for it in found.open}
        settled = replace(found, chosen=chosen)
        assert settled.open == []
        it = next(it for it in settled.decisions if it.tensor.name in chosen)
        assert (it.type, it.because.endswith(" (chosen)")) == ("Q6_K", True)
