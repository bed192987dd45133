"""The model that a quantized file was made from, as far as a plan has to know it."""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.model import Model
from quantrecipe.plan.assign import FLOATS
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.trace import trace
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry

__all__ = ["as_source", "quantizable"]

_FLOAT = "BF16"


def as_source(model: Model, registry: Registry) -> Model:
    """The model with its matrices as floats, and without the tensors that quantizing added."""
    companions = {
        companion_name(tensor, fmt.spec.companion)
        for tensor in model.tensors
        if (fmt := registry.formats.get(tensor.dtype)) is not None and fmt.spec.companion
    }
    matrices = quantizable(model, registry)
    tensors = tuple(
        replace(tensor, dtype=_FLOAT)
        if tensor.name in matrices or (tensor.dtype not in FLOATS and _has_codec(tensor.dtype, registry))
        else tensor
        for tensor in model.tensors
        if tensor.name not in companions
    )
    return replace(model, tensors=tensors)


def quantizable(model: Model, registry: Registry) -> frozenset[str]:
    """Names of the tensors that a recipe's `default` is about."""
    everything = load_recipe_text(
        "quantrecipe: 1\nrules: [{tensors: 'regex:.', type: F32}]\n", registry=registry
    )
    found = trace(everything, model)
    return frozenset(found.decided)


def _has_codec(type_: str, registry: Registry) -> bool:
    fmt = registry.formats.get(type_)
    return fmt is None or fmt.spec.codec
