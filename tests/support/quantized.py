"""A model as a recipe would have quantized it, without any weights: what an import is tried on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantrecipe.exchange.source import Source
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry

__all__ = ["quantized", "types_of", "with_types"]


def quantized(
    model: Model, recipe: Recipe, registry: Registry, *, label: str | None = None, importance: bool = False
) -> Model:
    """The model with the types that the recipe gives it. label: what the file says it mostly is."""
    types = types_of(recipe, model, registry, importance=importance)
    return with_types(model, types, label=label or recipe.file_type, importance=importance)


def with_types(
    model: Model, types: Mapping[str, str], *, label: str | None = None, importance: bool = False
) -> Model:
    """The model with these types."""
    metadata = dict(model.metadata)
    metadata.pop("general.file_type", None)
    if label is not None:
        metadata["general.file_type"] = GGUFValue.of(ValueType.UINT32, FILE_TYPES[label])
    if importance:
        metadata["quantize.imatrix.file"] = GGUFValue.of(ValueType.STRING, "calibration.gguf")
        metadata["quantize.imatrix.entries_count"] = GGUFValue.of(ValueType.UINT32, 224)
    tensors = tuple(replace(tensor, dtype=types[tensor.name]) for tensor in model.tensors)
    return replace(model, tensors=tensors, metadata=metadata)


def types_of(recipe: Recipe, model: Model, registry: Registry, *, importance: bool = False) -> dict[str, str]:
    """The type that the recipe gives each tensor."""
    planned = Source(model=model, registry=registry, importance=importance).planned(recipe)
    assert planned is not None, "the recipe can't be planned"
    return {name: it.type for name, it in planned.items()}
