"""The shipped presets give each tensor the type that llama-quantize gives it.

Recorded with llama-quantize itself: see `origin` in tests/data/recipes/llama-quantize.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.plan.resolve import resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo, tensor_order

RECORDED = json.loads((Path(__file__).parents[1] / "data/recipes/llama-quantize.json").read_text())["models"]
PRESETS = ("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "F16", "BF16")
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def _model(recorded: dict[str, Any]) -> Model:
    tensors = [
        TensorInfo.from_name(entry["name"].format(layer), tuple(entry["shape"]), "F16")
        for entry in recorded["tensors"]
        for layer in _layers(entry.get("layers", [0]))
    ]
    return Model(
        path=Path("model.gguf"),
        container="gguf",
        arch=recorded["arch"],
        tensors=tuple(tensors),
        metadata={key: GGUFValue.of(ValueType.UINT32, value) for key, value in recorded["metadata"].items()},
        sources={},
    )


def _layers(layers: str | list[int]) -> list[int]:
    if isinstance(layers, list):
        return layers
    first, last = map(int, layers.split("-"))
    return list(range(first, last + 1))


def _runs(text: str) -> Iterator[str]:
    for run in text.split():
        count, _, type_ = run.partition("x")
        yield from [type_] * int(count)


def _stored(type_: str, cols: int) -> str:
    """What llama-quantize makes of a type for rows of this length: fallbacks aren't a recipe's business."""
    if type_ == "keep":
        return "F16"
    if type_.startswith("Q") and cols % 256:
        type_ = FALLBACK.get(type_, type_)
    return "F16" if type_.startswith("Q") and cols % 32 else type_


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", RECORDED)
def test_a_preset_agrees_with_llama_quantize(name: str, preset: str, registry: Registry) -> None:
    model = _model(RECORDED[name])
    expected = dict(
        zip(
            [tensor.name for tensor in sorted(model.tensors, key=tensor_order)],
            _runs(RECORDED[name]["types"][preset]),
            strict=True,
        )
    )
    recipe = load_recipe(f"llama.cpp/{preset}", registry=registry)
    found = {}
    for decision in resolve(recipe, model, has_importance=False, covered=lambda _: False):
        found[decision.tensor.name] = _stored(decision.type, decision.tensor.cols)
    wrong = {tensor: (found[tensor], type_) for tensor, type_ in expected.items() if found[tensor] != type_}
    assert not wrong, "tensor: (preset, llama-quantize)"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_what_llama_quantize_calls_it(preset: str, registry: Registry) -> None:
    assert load_recipe(f"llama.cpp/{preset}", registry=registry).file_type == preset


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_a_pure_recipe_uses_one_type_for_every_quantizable_matrix(name: str, registry: Registry) -> None:
    recipe = load_recipe(f"pure/{name}", registry=registry)
    model = _model(RECORDED["llama-32"])
    decisions = resolve(recipe, model, has_importance=False, covered=lambda _: False)
    types = {d.tensor.name: d.type for d in decisions}
    assert types.pop("output_norm.weight") == "keep"
    assert {type_ for tensor, type_ in types.items() if "_norm" not in tensor} == {name}
