"""One side of a comparison: what a recipe makes of a model, or what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plain_data import plain
from quantrecipe.plan.review.sides import Fate, Side, side_of_model, side_of_plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo


def fate(
    name: str = "blk.0.attn_q.weight", type_: str = "Q4_K", shape: tuple[int, ...] = (4, 256), **more: Any
) -> Fate:
    return Fate(tensor=TensorInfo.from_name(name, shape, "BF16"), type=type_, **{"nbytes": 576, **more})


class TestFates:
    @pytest.mark.parametrize(
        ("change", "differs"),
        [
            ({}, False),
            ({"type_": "Q4_0"}, True),
            ({"nbytes": 577}, True),
            ({"options": {"a": 1}}, True),
            ({"shape": (2, 512)}, True),
            ({"importance": False}, True),
            ({"importance": None}, False),
            ({"because": "elsewhere", "why": "x", "wanted": "Q5_K"}, False),
        ],
    )
    def test_what_makes_other_data(self, change: dict[str, Any], differs: bool) -> None:
        assert fate(importance=True).differs(fate(**{"importance": True, **change})) is differs

    def test_options_stand_behind_the_type(self) -> None:
        assert fate().label == "Q4_K"
        assert fate(options={"a": 1, "b": "x"}).label == "Q4_K (a=1, b=x)"


def side(label: str, *fates: Fate, **more: Any) -> Side:
    return Side(label=label, tensors={it.tensor.name: it for it in fates}, **{"nbytes": 1000, **more})


def test_sums() -> None:
    of = side("a", fate(), fate("output.weight", "F16", nbytes=2048), warnings=("w",))
    assert of.weights == 2048
    assert of.bits_per_weight == 8 * (576 + 2048) / 2048
    assert plain(of.totals(0.5)) == {
        "side": "a", "nbytes": 1000, "tensors_nbytes": 2624, "tables_nbytes": 0,
        "bits_per_weight": 10.25, "estimated_error": 0.5, "warnings": ["w"],
    }  # fmt: skip
    assert side("empty").bits_per_weight == 0
    table = fate("token_embd.weight", "Q6_K", nbytes=100)
    assert side("a", table, fate("output.weight", "F16")).tables_nbytes == 100
    assert side("a", table, fate()).tables_nbytes == 0  # it makes the logits, too


def test_of_a_plan_and_of_its_file(tmp_path: Path) -> None:
    """The file doesn't say who decided, nor whether importance was used."""
    registry = load_registry(plugins=False)
    source = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, cols=96, hidden=256)))
    mix = recipe(rule("attn_v", "Q6_K", line=3, why="values"), default="Q8_0")
    plan = make_plan(mix, source, registry=registry)
    made = side_of_plan("mine", plan, mix)
    assert (made.label, made.nbytes, made.recipe, made.warnings) == ("mine", plan.nbytes, mix, plan.warnings)
    assert made.metadata == plan.metadata
    value = made.tensors["blk.0.attn_v.weight"]
    assert (value.type, value.wanted, value.because, value.why) == ("Q8_0", "Q6_K", "recipe.yaml:3", "values")
    assert (value.nbytes, value.importance) == (48 * 3 * 34, False)
    path = apply_plan(plan, tmp_path / "out.gguf", registry=registry).path
    held = side_of_model("file", open_model(path))
    assert (held.label, held.nbytes, held.recipe, held.warnings) == ("file", plan.nbytes, None, ())
    assert held.metadata is not None
    assert set(held.tensors) == set(made.tensors)
    stored = held.tensors["blk.0.attn_v.weight"]
    assert (stored.type, stored.nbytes, stored.because, stored.importance) == ("Q8_0", 48 * 3 * 34, "", None)
    assert (held.weights, held.bits_per_weight) == (made.weights, made.bits_per_weight)
