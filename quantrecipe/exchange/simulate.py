"""Which type llama-quantize gives each tensor, for a command with patterns: its mixtures count only what they decide.

What the patterns leave, the mixture decides, and the mixture is a shipped recipe; but `rank` skips the tensors that a
pattern took out, where a recipe's own rules don't change it.
"""

from __future__ import annotations

from collections.abc import Collection

from quantrecipe.exchange.presets import planned_types
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import fallback_chain
from quantrecipe.plan.facts import model_facts, tensor_facts
from quantrecipe.plan.resolve import trace
from quantrecipe.recipe.recipe import KEEP, Recipe, Rule
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["fallback_for", "mixture_types"]


def mixture_types(
    mixture: Recipe,
    source: Model,
    registry: Registry,
    *,
    taken: Collection[str],
    reached: Collection[str],
    importance: bool,
) -> dict[str, str]:
    """The type of every tensor that isn't `taken` by a pattern; those of taken ones mean nothing. None at all where the
    mixture can't be had for such rows.

    source:  the model, with floats in its matrices
    reached: names of the tensors that are ever quantized
    """
    if not taken:
        planned = planned_types(mixture, source, registry, importance=importance)
        return {name: it.type for name, it in (planned or {}).items()}
    found = trace(mixture, source, has_importance=importance, covered=lambda _: importance)
    facts = model_facts(source, has_importance=importance)
    decided: dict[str, Rule] = {}
    for rule, match in found.matches:
        named = [tensor for tensor in found.tensors if tensor.name in match.named]
        rank = 0
        for tensor in named:
            if tensor.name in taken:
                continue
            own = tensor_facts(tensor, rank=rank, count=len(named), covered=importance)
            in_layers = rule.layers is None or rule.layers.contains(tensor.layer, found.n_layers)
            if in_layers and (rule.when is None or rule.when.evaluate({**facts, **own})):
                decided.setdefault(tensor.name, rule)
            rank += 1
    types = {}
    for tensor in found.tensors:
        decider = decided.get(tensor.name)
        wanted = decider.type if decider is not None else mixture.default if tensor.name in reached else KEEP
        kept = wanted in (None, KEEP)
        types[tensor.name] = tensor.dtype if kept else fallback_for(wanted or KEEP, tensor, registry)
    return types


def fallback_for(wanted: str, tensor: TensorInfo, registry: Registry) -> str:
    """The type, or the first of its fallbacks that accepts the tensor."""
    if registry.format(wanted).accepts(tensor) is None:
        return wanted
    fallbacks = {fmt.spec.name: fmt.spec.fallback for fmt in registry.formats.values()}
    for name in fallback_chain(wanted, fallbacks):
        if registry.format(name).accepts(tensor) is None:
            return name
    return wanted
