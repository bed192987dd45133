"""Known: what earlier runs measured, so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantrecipe.measure.journal import Journal
from quantrecipe.sensitivity.sensitivity import Sensitivity, TensorSensitivity

__all__ = ["Known"]


class Known:
    """What earlier runs measured."""

    def __init__(self, journal: Journal) -> None:
        self._tensors: dict[tuple[str, int, str], TensorSensitivity] = {}
        self.probes = {probe.key: probe for probe in journal.probes}
        for tensor in journal.tensors:
            self._add(tensor)

    def add_file(self, old: Sensitivity, key: Mapping[str, str]) -> None:
        """Losses only where they were measured in the same way; probes say themselves what they depend on."""
        if (old.provenance.analysis, old.provenance.sampling) == (key["analysis"], key["sampling"]):
            for tensor in old.tensors.values():
                self._add(tensor)
        self.probes |= {probe.key: probe for probe in old.probes}

    def _add(self, tensor: TensorSensitivity) -> None:
        place = tensor.digest, tensor.weights, tensor.importance
        before = self._tensors.get(place)
        losses = {} if before is None else before.losses
        self._tensors[place] = replace(tensor, losses={**losses, **tensor.losses})

    def __call__(self, digest: str, weights: int, importance: str) -> TensorSensitivity | None:
        return self._tensors.get((digest, weights, importance))
