"""prune: a model without some of its layers, the others numbered anew.

The model keeps its own metadata, and with it the facts of conditions (`n_layers`), as in llama-quantize; what the
output's metadata says of its layers is in `Pruned.metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.pruning.layer_metadata import metadata_of_layers
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.tensor import TensorInfo

__all__ = ["Pruned", "prune"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What is left of a model after pruning.

    metadata: pairs that the output has instead of the model's, since they are about layers
    names:    the new name of each tensor that is left, by the old one
    """

    model: Model
    importance: Importance | None
    metadata: Mapping[str, GGUFValue]
    names: Mapping[str, str]


def prune(model: Model, importance: Importance | None, recipe: Recipe, layers: LayerSet) -> Pruned:
    """The model and its importance without these layers, which the recipe prunes.

    PlanError where the model has no such layers, or no others, or where its metadata can't say what is left.
    """
    n_blocks, n_layers = model.n_blocks, model.n_layers
    there = {tensor.layer for tensor in model.tensors if tensor.layer is not None}
    if not there:
        raise PlanError(
            f"`prune: {layers}` is about layers called blk.0, blk.1, …, and {model.path} has none",
            "leave it out",
            file=recipe.file,
        )
    gone = set(layers.members(n_layers, n_blocks))
    if beyond := layers.beyond(n_blocks):
        raise PlanError(
            f"`prune` names {', '.join(repr(text) for text in beyond)}, but the model has layers 0-{n_blocks - 1}"
        )
    # A layer without tensors of its own keeps its place, and its items in the metadata's arrays.
    left = sorted((there | set(range(n_blocks))) - gone)
    if not gone or not there - gone:
        raise PlanError(f"`prune: {layers}` leaves {'no layer' if gone else 'every layer'}")
    metadata = _metadata(model, left, recipe, n_layers=n_layers, n_blocks=n_blocks)
    numbers = {old: new for new, old in enumerate(left)}
    tensors, names = [], {}
    for tensor in model.tensors:
        if tensor.layer in gone:
            continue
        renumbered = tensor if tensor.layer is None else _renumbered(tensor, numbers[tensor.layer])
        tensors.append(renumbered)
        names[tensor.name] = renumbered.name
    sources = {names[name]: source for name, source in model.sources.items() if name in names}
    return Pruned(
        model=replace(model, tensors=tuple(tensors), sources=sources),
        importance=None if importance is None else importance.renumbered(numbers),
        metadata=metadata,
        names=names,
    )


def _metadata(
    model: Model, left: list[int], recipe: Recipe, *, n_layers: int, n_blocks: int
) -> dict[str, GGUFValue]:
    """The pairs that change; problems are the recipe's, which asks for what the model doesn't allow."""
    try:
        return metadata_of_layers(model, left, n_layers=n_layers, n_blocks=n_blocks, given=recipe.metadata)
    except PlanError as error:
        raise PlanError(
            Problem(what=p.what, remedy=p.remedy, file=recipe.file) for p in error.problems
        ) from error


def _renumbered(tensor: TensorInfo, layer: int) -> TensorInfo:
    return replace(tensor, name=tensor.name.replace(f"blk.{tensor.layer}.", f"blk.{layer}.", 1), layer=layer)
