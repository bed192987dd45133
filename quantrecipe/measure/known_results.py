"""Known: what earlier runs measured, so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quantrecipe.measure.journal import Journal
from quantrecipe.sensitivity.sensitivity import Probed, Sensitivity, TensorSensitivity

__all__ = ["Known"]


class Known:
    """What earlier runs measured: losses by what they depend on, probes by their keys."""

    def __init__(self, journal: Journal) -> None:
        self._tensors: dict[tuple[str, int, str], TensorSensitivity] = {}
        self.probes = {probe.key: probe for probe in journal.probes}
        for tensor in journal.tensors:
            self._add(tensor)

    def add_losses(self, old: Sensitivity, key: Mapping[str, str]) -> None:
        """Add the losses of a file, if they were measured in the same way."""
        if (old.provenance.analysis, old.provenance.sampling) == (key["analysis"], key["sampling"]):
            for tensor in old.tensors.values():
                measured = {
                    name: loss for name, loss in tensor.losses.items() if name not in tensor.predicted
                }
                self._add(replace(tensor, losses=measured, predicted=(), check=0.0))

    def add_probes(self, old: Sensitivity) -> None:
        """Add the probes of a file; their keys say what they depend on."""
        self.probes |= {probe.key: probe for probe in old.probes}

    def _add(self, tensor: TensorSensitivity) -> None:
        place = tensor.digest, tensor.weights, tensor.importance
        before = self._tensors.get(place)
        losses = {} if before is None else before.losses
        self._tensors[place] = replace(tensor, losses={**losses, **tensor.losses})

    def others(self, used: Sequence[Probed]) -> tuple[Probed, ...]:
        """Probes that weren't used this time; they are kept for another."""
        keys = {probe.key for probe in used}
        return tuple(replace(probe, used=False) for key, probe in self.probes.items() if key not in keys)

    def __call__(self, digest: str, weights: int, importance: str) -> TensorSensitivity | None:
        return self._tensors.get((digest, weights, importance))
