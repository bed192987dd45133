"""What a plan says of itself, in sums and for machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

MIX = recipe(
    rule("attn_v", "Q6_K", line=7, why="outliers"),
    rule("attn_q", "Q4_K", line=9, fallback="Q4_0"),
    default="Q8_0",
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Plan:
    """Of rows that Q6_K and Q4_K don't divide, in several files."""
    folder = tmp_path_factory.mktemp("plan")
    source = write_gguf(folder / "m.gguf", llama_tensors(layers=1, cols=96, hidden=256))
    split = SplitLimits(max_tensors=5)
    return make_plan(MIX, open_model(source), registry=registry, split=split)


def test_sums_go_over_all_files(plan: Plan) -> None:
    assert len(plan.files) == 3
    assert plan.nbytes == sum(file.nbytes for file in plan.files)
    assert len(plan.assignments) == 12
    assert plan.size == sum(a.tensor.size for a in plan.assignments)
    bits = 8 * sum(a.nbytes for a in plan.assignments) / plan.size
    assert plan.bits_per_weight == bits


def test_the_first_file_has_the_metadata(plan: Plan) -> None:
    assert plan.metadata is plan.files[0].metadata
    assert "general.architecture" in plan.metadata
    assert plan.written.metadata == plan.metadata
    assert plan.written.tensors == plan.model.tensors


def test_fallbacks_are_the_tensors_that_got_another_type(plan: Plan) -> None:
    assert {(a.tensor.name, a.wanted, a.type) for a in plan.fallbacks} == {
        ("blk.0.attn_v.weight", "Q6_K", "Q8_0"),
        ("blk.0.attn_q.weight", "Q4_K", "Q4_0"),
    }


def test_an_assignment_for_machines(plan: Plan) -> None:
    found = {t["name"]: t for t in plan.to_json()["tensors"]}
    value = dict(found["blk.0.attn_v.weight"])
    assert value.pop("offset") > 0
    assert value == {
        "name": "blk.0.attn_v.weight",
        "shape": [48, 96],
        "source_type": "BF16",
        "type": "Q8_0",
        "options": {},
        "nbytes": 48 * 3 * 34,
        "bits_per_weight": 8.5,
        "because": "recipe.yaml:7",
        "why": "outliers",
        "fallback_from": "Q6_K",
        "fallback_reason": "its 96 columns don't divide into blocks of 256",
        "importance": False,
        "encoder": None,
        "encoder_reason": "",
        "encoder_settled": {},
        "loss": None,
    }
    assert found["blk.0.ffn_down.weight"]["fallback_from"] is None


def test_a_plan_for_machines(plan: Plan) -> None:
    found = plan.to_json()
    assert found["recipe"] == "test"
    assert found["recipe_file"] == "recipe.yaml"
    assert found["architecture"] == "llama"
    assert Path(found["model"]).name == "m.gguf"
    assert (found["weights"], found["nbytes"], found["digest"]) == (plan.size, plan.nbytes, plan.digest)
    assert found["bits_per_weight"] == pytest.approx(plan.bits_per_weight, abs=5e-5)
    assert found["files"] == [
        {"nbytes": file.nbytes, "header_nbytes": file.header, "tensors": len(file.assignments)}
        for file in plan.files
    ]
    assert found["warnings"] == list(plan.warnings)
    assert (found["coverage"], found["budget"]) == (None, None)
    assert [t["name"] for t in found["tensors"]] == [a.tensor.name for a in plan.assignments]


def test_a_tensor_without_elements_has_no_bits(plan: Plan) -> None:
    a = plan.assignments[0]
    empty = replace(a, tensor=replace(a.tensor, shape=(0, 96)), nbytes=0)
    assert empty.bits_per_weight == 0.0
