"""An engine that is none, for mixes: what each type does to each tensor is made up, and known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from quantrecipe.allocate.losses import Losses
from quantrecipe.measure.mixed import Mixed
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity

BLOCKS, POSITIONS = 32, 256


def known(model: Model, registry: Registry, factor: Callable[[str], float] = lambda name: 1.0) -> Sensitivity:
    """As if every alpha had been measured, as so many times the prior's."""
    found = estimate(model, registry)
    tensors = {
        name: replace(it, alpha=it.alpha * factor(name), alpha_source="probe")
        for name, it in found.tensors.items()
    }
    return Sensitivity(tensors=tensors)


class World:
    """An engine in which alphas, and what single types do, are what they are; with noise that all mixes share."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        factor: Callable[[str], float] = lambda name: 1.0,
        types: dict[str, float] | None = None,
        blocks: int = BLOCKS,
        noise: float = 0.001,
    ) -> None:
        self._losses = Losses(model, registry, known(model, registry, factor), {})
        self._types, self._blocks, self._noise = types or {}, blocks, noise
        self.asked: list[str] = []

    def loss(self, plan: Plan) -> float:
        return sum(
            self._losses.of(a.tensor.name, a.format.spec) * self._types.get(a.type, 1.0)
            for a in plan.assignments
            if a.format.spec.block > 1
        )

    def __call__(self, plan: Plan, what: str) -> Mixed:
        self.asked.append(what)
        hard = np.random.default_rng(1).uniform(0.5, 1.5, self._blocks)
        hard *= self._blocks / hard.sum()
        own = np.random.default_rng(len(self.asked)).normal(1, self._noise, self._blocks)
        sums = self.loss(plan) * POSITIONS * hard * own
        return Mixed(
            key=str(len(self.asked)),
            what=what,
            resident="F32",
            counts=(POSITIONS,) * self._blocks,
            divergence=tuple(sums.tolist()),
            cost=(2.0 * POSITIONS,) * self._blocks,
        )
