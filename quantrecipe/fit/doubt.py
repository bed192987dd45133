"""doubt: what a mix loses beside a preset if the estimate is as wrong as it may be, tensor by tensor.

Where no alpha was measured, a usual one stands in, and models are far apart: a mix that spends what the head would have
on the layers is only better if the head matters as little as it usually does. So types are judged from where a preset
stands. What a tensor gains by a better type counts as if it mattered as little as may be, what it loses by a cheaper
one as if it mattered as much as may be:

    from D of the preset to D' of another type:   alpha (D' - D) / exp(doubt)   where that is a gain
                                                  alpha (D' - D) · exp(doubt)   where it is a loss
                                                  and TYPES of the smaller loss, since D is no exact measure of types

The sum over tensors is what a mix changes at worst. The optimiser minimises it like any other loss, and the preset
itself has 0: so tensors exchange bits only where that is worth it beyond doubt. Doubts are those of
`sensitivity.prior`, and 0 for alphas that were measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from quantrecipe.allocate.losses import Losses
from quantrecipe.api import FormatSpec
from quantrecipe.fit.stock import Mix, quantized
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Loss, Sensitivity, TensorSensitivity, frozen

__all__ = [
    "SURE",
    "TYPES",
    "Regrets",
    "change_at_worst",
    "cost_seen_from",
    "doubtful",
    "least_regret",
    "seen_from",
]

SURE = 1.0
"""Standard deviations by which alphas may be wrong, all of them at once and each to the worse side.

benchmarks/doubt.py, on the two small models of docs/quality.md, with alphas that are as far from the prior as those of
a mixture of experts were (the head 1.9 times, layers 0.08 to 0.5 times): mixes of Q2_K's to Q6_K's bytes lost up to
72 % more than the preset without doubt, and none lost more with it. More than 1 costs gains, and changes nothing else.
"""
TYPES = 0.1
"""By how much the effects of types differ that have the same D: docs/sensitivity.md. What a predicted D may be off by
comes on top."""


def doubtful(losses: Losses, model: Model) -> bool:
    """True where any alpha is the prior's."""
    return any(len(tensor.shape) > 1 and losses.doubt(tensor.name) > 0 for tensor in model.tensors)


def change_at_worst(plan: Plan, beside: Plan, losses: Losses) -> float:
    """How much more a plan may lose than another one, negative where it surely loses less. In nats."""
    return _between(_specs(plan), _specs(beside), _Steps(losses))


def least_regret(mixes: Sequence[Mix], losses: Losses) -> Mix | None:
    """The preset that may lose least beside each of the others; where nothing is in doubt, the one that loses least."""
    return Regrets(mixes, losses).least(mixes)


class Regrets:
    """What each of some presets may lose beside each other one: for several choices among them, compared once."""

    def __init__(self, mixes: Sequence[Mix], losses: Losses) -> None:
        specs, steps = {mix.name: _specs(mix.plan) for mix in mixes}, _Steps(losses)
        self._between = {
            (name, beside): _between(one, other, steps)
            for name, one in specs.items()
            for beside, other in specs.items()
        }

    def least(self, mixes: Sequence[Mix]) -> Mix | None:
        """Of some of them, the one that may lose least beside each of the others; None of none."""

        def regret(mix: Mix) -> float:
            return max(self._between[mix.name, other.name] for other in mixes)

        return min(mixes, key=lambda mix: (regret(mix), mix.loss, mix.nbytes), default=None)


def seen_from(preset: Plan, losses: Losses, registry: Registry) -> Sensitivity:
    """What each type costs each tensor, if alphas are as wrong as they may be; the preset costs what is expected."""
    formats = [fmt for fmt in registry.formats.values() if fmt.spec.codec]
    cost = cost_seen_from(preset, losses)
    found = {}
    for tensor in preset.model.tensors:
        if len(tensor.shape) < 2:
            continue
        costs = {
            fmt.spec.name: Loss(
                error=cost(tensor.name, fmt.spec),
                standard_error=0.0,
                nbytes=fmt.spec.tensor_bytes(tensor.shape),
            )
            for fmt in formats
            if fmt.accepts(tensor) is None
        }
        found[tensor.name] = TensorSensitivity(
            name=tensor.name, digest="", weights=tensor.size, losses=costs, alpha=1.0
        )
    return Sensitivity(tensors=frozen(found))


def cost_seen_from(preset: Plan, losses: Losses) -> Callable[[str, FormatSpec], float]:
    """The same for one tensor, by its name, and one type."""
    here, steps = _specs(preset), _Steps(losses)

    def cost(name: str, spec: FormatSpec) -> float:
        own = here.get(name)
        return max(0.0, (0.0 if own is None else losses.of(name, own)) + steps(name, spec, own))

    return cost


def _specs(plan: Plan) -> Mapping[str, FormatSpec]:
    return {a.tensor.name: a.format.spec for a in quantized(plan)}


class _Steps:
    """What tensors lose more in one type than in another, at worst; each is computed once, and presets share most."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._known: dict[tuple[str, str, str], float] = {}

    def __call__(self, name: str, spec: FormatSpec | None, own: FormatSpec | None) -> float:
        """spec, own: None where nothing is rounded."""
        key = name, "" if spec is None else spec.name, "" if own is None else own.name
        if key not in self._known:
            self._known[key] = self._step(*key, spec, own)
        return self._known[key]

    def _step(
        self, name: str, type_: str, before: str, spec: FormatSpec | None, own: FormatSpec | None
    ) -> float:
        if type_ == before:
            return 0.0
        doubt = self._losses.doubt(name)
        old, new = (0.0 if it is None else self._losses.of(name, it) for it in (own, spec))
        missed = math.hypot(*(self._losses.miss(name, it) for it in (own, spec)))
        beyond = math.hypot(TYPES, missed) * min(old, new) if doubt > 0 else 0.0
        return (new - old) * math.exp(SURE * doubt if new > old else -SURE * doubt) + beyond


def _between(one: Mapping[str, FormatSpec], other: Mapping[str, FormatSpec], steps: _Steps) -> float:
    return math.fsum(steps(name, one.get(name), other.get(name)) for name in {**other, **one})
