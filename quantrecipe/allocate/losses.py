"""What each tensor of a plan loses in each format: as measured, else as the prior has it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from quantrecipe.api import FormatSpec
from quantrecipe.errors import SensitivityError
from quantrecipe.model.model import Model
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.nominal import nominal_error, nominal_errors
from quantrecipe.sensitivity.prior import estimate, prior_alphas
from quantrecipe.sensitivity.sensitivity import PRIOR, Sensitivity, TensorSensitivity

__all__ = ["Losses"]


class Losses:
    """What each tensor loses in each format: mean KL divergence, in nats.

    source: where they are from, for people
    """

    def __init__(
        self, model: Model, registry: Registry, measured: Sensitivity | None, names: Mapping[str, str]
    ) -> None:
        """`names`: the name under which a tensor was measured, by its name in the plan.

        SensitivityError where the measurement is of another model.
        """
        self._prior = estimate(model, registry)
        self._usual = prior_alphas(model.tensors, max(1, model.n_layers))
        self._names = names
        self._known: dict[str, TensorSensitivity] = dict(self._prior.tensors)
        self.source = f"prior, version {self._prior.provenance.prior}"
        if measured is None:
            return
        of_model = {tensor.name: tensor.size for tensor in model.tensors}
        for plan_name, size in of_model.items():
            found = measured.tensors.get(names.get(plan_name, plan_name))
            if found is None:
                continue
            if found.weights != size:
                raise SensitivityError(
                    f"{found.name} has {size:,} weights, and was measured with {found.weights:,}",
                    "measure this model with `quantrecipe sensitivity`",
                )
            self._known[plan_name] = found
        if not measured.tensors.keys() & {names.get(name, name) for name in of_model}:
            raise SensitivityError(
                f"the losses were measured on {measured.provenance.model or 'a model'} with other tensors",
                "measure this model with `quantrecipe sensitivity`",
            )
        said = measured.provenance
        self.source = f"{said.analysis or 'typical errors'}, weighed by {said.weighing}"

    def of(self, name: str, spec: FormatSpec) -> float:
        """What the tensor of this name loses in the format; 0 for what is no matrix."""
        known = self._known.get(name)
        if known is None:
            return 0.0
        cost = known.cost(spec.name)
        # Not measured in this type: taken to be as much worse than typical as it is in those that were measured.
        return known.alpha * nominal_error(spec) * _beyond_typical(known) if cost is None else cost

    def doubt(self, name: str) -> float:
        """How sure the tensor's alpha is beside those of others: the standard deviation of its logarithm.

        0 where it was measured: what that leaves is told by `fit.margin`.
        """
        known = self._known.get(name)
        return 0.0 if known is None or known.alpha_source != PRIOR else self._usual[name].beside

    def miss(self, name: str, spec: FormatSpec | None) -> float:
        """How far D of the format may be off, relative, where it was predicted; 0 where it was measured."""
        known = self._known.get(name)
        if known is None or spec is None or spec.name not in known.predicted:
            return 0.0
        loss = known.losses[spec.name]
        return loss.standard_error / loss.error if loss.error > 0 else 0.0


def _beyond_typical(tensor: TensorSensitivity) -> float:
    """How much more this tensor loses than a typical one, in the types in which it was measured."""
    typical = nominal_errors()
    ratios = [
        math.log(loss.error / typical[name][1])
        for name, loss in tensor.losses.items()
        if name in typical and loss.error > 0 and typical[name][1] > 0
    ]
    # The geometric mean: of two types of which one loses twice and one half as much, the tensor is a typical one.
    return math.exp(math.fsum(ratios) / len(ratios)) if ratios else 1.0
