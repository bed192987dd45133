"""Which presets do what was asked for: all limits kept, floors and ties too, and no type that wasn't wanted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from quantrecipe.allocate.limits import Meter
from quantrecipe.fit.opened import Floor
from quantrecipe.fit.stock import Mix, quantized
from quantrecipe.plan.plan import Assignment
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.registry import Registry
from quantrecipe.tensor import head_name

__all__ = ["Rules", "rivals"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a mix has to keep. `types`: those that it may have; None: any."""

    limits: Sequence[Meter]
    floors: Sequence[Floor]
    ties: Sequence[Sequence[str]]
    types: Collection[str] | None


def rivals(mixes: Sequence[Mix], rules: Rules, registry: Registry) -> tuple[Mix, ...]:
    """The mixes that keep the rules."""
    return tuple(mix for mix in mixes if _keeps(mix, rules, registry))


def _keeps(mix: Mix, rules: Rules, registry: Registry) -> bool:
    if any(meter.whole(mix.plan) > meter.most for meter in rules.limits):
        return False
    encoded = quantized(mix.plan)
    if rules.types is not None and any(a.type not in rules.types for a in encoded if len(a.tensor.shape) > 1):
        return False
    head = head_name(mix.plan.model.tensors)
    for floor in rules.floors:
        least = registry.formats[floor.type].spec.bits_per_weight
        pattern = Pattern.parse(floor.tensors)
        if any(a.format.spec.bits_per_weight < least for a in encoded if pattern.matches(a.tensor, head)):
            return False
    return all(_tied(encoded, [Pattern.parse(text) for text in tie], head) for tie in rules.ties)


def _tied(encoded: Sequence[Assignment], tie: Sequence[Pattern], head: str | None) -> bool:
    """True where the tensors of each layer have one type."""
    types: dict[int | None, str] = {}
    return all(
        types.setdefault(a.tensor.layer, a.type) == a.type
        for a in encoded
        if any(pattern.matches(a.tensor, head) for pattern in tie)
    )
