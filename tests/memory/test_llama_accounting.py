"""What a model takes is what llama.cpp says it takes, within five per cent: recorded from llama-fit-params."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.memory.device import DeviceMemory, Division, Settings
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

RECORDED = json.loads(
    (Path(__file__).parents[1] / "data/memory/llama-fit-params.json").read_text(encoding="utf-8")
)
MIB = 1 << 20


@cache
def plan_of(name: str) -> Plan:
    registry = load_registry(plugins=False)
    model = open_model(f"shapes/{name}", registry=registry)
    said = {f"{model.arch}.{key}": value_of(value) for key, value in RECORDED["metadata"][name].items()}
    model = replace(model, metadata={**model.metadata, **said})
    return make_plan(
        load_recipe("llama.cpp/Q4_K_M", registry=registry), model, registry=registry, provenance=False
    )


def value_of(value: Any) -> GGUFValue:
    if isinstance(value, list):
        return GGUFValue.array(ValueType.BOOL, value)
    return GGUFValue.of(ValueType.UINT32, value)


def label(case: dict[str, Any]) -> str:
    return "-".join(str(value) for key, value in case.items() if not key.endswith("_mib"))


def both(case: dict[str, Any]) -> tuple[DeviceMemory, DeviceMemory]:
    plan = plan_of(case["model"])
    said = {key: case[key] for key in ("context", "ubatch", "layers", "experts", "kv") if key in case}
    division = Division(plan.model, Settings(**said))
    tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
    return division.gpu(tensors), division.cpu(tensors)


@pytest.mark.parametrize("case", RECORDED["cases"], ids=label)
def test_the_gpu(case: dict[str, Any]) -> None:
    weights, cache_, compute = case["gpu_mib"]
    found, _ = both(case)
    assert found.weights / MIB == pytest.approx(weights, abs=2)
    assert found.cache / MIB == pytest.approx(cache_, abs=2)
    assert found.compute / MIB == pytest.approx(
        compute, rel=0.2
    )  # where a batch's buffers lie, llama.cpp packs
    whole = weights + cache_ + compute
    assert (found.total - found.copies) / MIB == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize(
    "case", [case for case in RECORDED["cases"] if "layers" not in case and "experts" not in case], ids=label
)
def test_main_memory_beside_a_gpu(case: dict[str, Any]) -> None:
    weights, cache_, compute = case["host_mib"]
    _, found = both(case)
    assert found.weights / MIB == pytest.approx(weights, abs=2)
    assert found.cache == cache_ == 0
    assert found.compute / MIB == pytest.approx(compute, rel=0.05, abs=15)


@pytest.mark.parametrize("case", [case for case in RECORDED["cases"] if "layers" in case], ids=label)
def test_what_stays_in_main_memory(case: dict[str, Any]) -> None:
    """Its caches; weights are repacked there, and llama-fit-params doesn't count those."""
    _, found = both(case)
    assert found.cache / MIB == pytest.approx(case["host_mib"][1], abs=2)


def test_a_gpu_that_computes_with_other_weights_needs_room_for_copies() -> None:
    case = next(case for case in RECORDED["cases"] if case.get("experts") == "cpu")
    found, _ = both(case)
    largest = max(a.nbytes for a in plan_of(case["model"]).assignments if a.tensor.role.endswith("_exps"))
    assert found.copies == largest
