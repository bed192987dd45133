"""prune: a model without some of its layers, the others numbered anew.

The model's own counts stay (`block_count`, and with it the facts of conditions), as in llama-quantize; the output's
metadata says how many layers are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError
from quantrecipe.importance import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.facts import model_facts
from quantrecipe.recipe.layers import LayerSet
from quantrecipe.tensor import TensorInfo

__all__ = ["Pruned", "prune"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What is left.

    layers: how many layers are left; None where nothing was pruned
    names:  the new name of each tensor that is left, by the old one
    """

    model: Model
    importance: Importance | None
    layers: int | None
    names: Mapping[str, str]


def prune(model: Model, importance: Importance | None, layers: LayerSet | None) -> Pruned:
    """The model and its importance without these layers. PlanError where the model has no such layers, or no others."""
    if layers is None:
        names = {tensor.name: tensor.name for tensor in model.tensors}
        return Pruned(model=model, importance=importance, layers=None, names=names)
    facts = model_facts(model, has_importance=importance is not None)
    n_blocks = facts["n_blocks"]
    gone = set(layers.members(facts["n_layers"], n_blocks))
    if beyond := layers.beyond(n_blocks):
        raise PlanError(
            f"`prune` names {', '.join(repr(text) for text in beyond)}, but the model has layers 0-{n_blocks - 1}"
        )
    left = sorted({t.layer for t in model.tensors if t.layer is not None} - gone)
    if not gone or not left:
        raise PlanError(f"`prune: {layers}` leaves {'every layer' if left else 'no layer'}")
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
        layers=len(left),
        names=names,
    )


def _renumbered(tensor: TensorInfo, layer: int) -> TensorInfo:
    return replace(tensor, name=tensor.name.replace(f"blk.{tensor.layer}.", f"blk.{layer}.", 1), layer=layer)
