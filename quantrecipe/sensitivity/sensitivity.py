"""Sensitivity: what each type would cost each tensor, alpha × D, with where the numbers are from.

D is the relative error of a tensor in a type (0: nothing is lost; 1: as if the tensor were zero), alpha says how
much the model's output moves per unit of it. Over tensors the costs add up, to within about ten per cent where
the whole stays below some hundredths of a nat (the linearity theorem, arXiv 2411.17525).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from quantrecipe.typed import Finite, Natural, NotNegative

__all__ = [
    "PRIOR",
    "Loss",
    "Probed",
    "Provenance",
    "Sensitivity",
    "TensorSensitivity",
    "frozen",
    "rounded",
]

PRIOR = "prior"
"""`alpha_source` of what nobody measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What one tensor loses in one type.

    error:          D, the relative error
    standard_error: of D, from sampling rows, and of the prediction if it is one; 0 where every row was measured
    nbytes:         size of the tensor in this type
    version:        of the format that was measured; 0 where a table of typical errors stands in
    """

    error: float
    standard_error: float
    nbytes: int
    version: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSensitivity:
    """What is known of one tensor.

    digest:       XXH3-128 of its stored bytes; "" where nothing was read
    weights:      how many it has
    losses:       by the name of the type
    alpha:        mean KL divergence per unit of D, in nats
    alpha_source: the analysis that found alpha ("probe", "table"), or "prior"
    importance:   XXH3-128 of its importance, "" where it has none
    rows:         rows that were encoded, of all that it has; 0 where none were
    experts:      D of each expert in `expert_type`, the cheapest look at which of them are hard; empty for others
    expert_type:  the type of `experts`
    unseen:       experts that calibration never reached
    predicted:    types of `losses` that weren't measured in this tensor, but follow from others
    check:        how far the prediction of one that was measured was off, relative; 0 where nothing is predicted
    """

    name: str
    digest: str
    weights: int
    losses: Mapping[str, Loss]
    alpha: float
    alpha_source: str = PRIOR
    importance: str = ""
    rows: int = 0
    experts: tuple[float, ...] = ()
    expert_type: str = ""
    unseen: tuple[int, ...] = ()
    predicted: tuple[str, ...] = ()
    check: float = 0.0

    def cost(self, type_: str) -> float | None:
        """What this type costs the tensor, alpha × D; None where the type wasn't measured."""
        loss = self.losses.get(type_)
        return None if loss is None else self.alpha * loss.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """One forward pass of the real engine: what the output did when some tensors had a lower type.

    key:      XXH3-128 of all that it depends on: weights, types and their versions, importance, text, resident type
    what:     the tensors and types, as a person reads them: "attn_v, layers 0-3 → Q3_K"
    resident: the type of the model in memory, which all other tensors had: "F32", "BF16", "Q8_0"
    floor:    by how much rounding to that may have moved the divergence; the standard error is at least that
    part:     of the text that it read: "2/4" is the second of four, spread over all of it; "" for the whole
    used:     False where alphas don't rest on it: it is kept, so that it needn't be made again
    """

    key: str
    what: str
    kld: Finite
    standard_error: NotNegative
    resident: str = ""
    floor: NotNegative = 0.0
    part: str = ""
    used: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where the numbers of a sensitivity come from.

    model:      its name, for people
    arch, n_layers: of the model
    analysis:   what measured D, "imatrix 1"; "" where nothing was
    weighing:   what found alpha, "probe 1"
    importance: name and XXH3-128 of the importance matrix
    sampling:   how rows were chosen: "all rows", or "262144 weights of each tensor"
    text:       name and XXH3-128 of the text that probes read
    engine:     that ran the probes
    prior:      version of the prior
    """

    model: str = ""
    arch: str = ""
    n_layers: Natural = 0
    analysis: str = ""
    weighing: str = PRIOR
    importance: str = ""
    sampling: str = ""
    text: str = ""
    engine: str = ""
    prior: Natural = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """All tensors of a model, by name; and what the numbers come from."""

    tensors: Mapping[str, TensorSensitivity]
    provenance: Provenance = field(default_factory=Provenance)
    probes: tuple[Probed, ...] = ()

    def cost(self, name: str, type_: str) -> float | None:
        """What giving the tensor this type costs, mean KL divergence in nats; None where it wasn't measured."""
        tensor = self.tensors.get(name)
        return None if tensor is None else tensor.cost(type_)

    def error(self, name: str, type_: str) -> float | None:
        """The relative error D of the tensor in this type; None where it wasn't measured."""
        tensor = self.tensors.get(name)
        loss = None if tensor is None else tensor.losses.get(type_)
        return None if loss is None else loss.error

    @property
    def types(self) -> tuple[str, ...]:
        """Every type that any tensor was measured in, the smallest first."""
        bits: dict[str, float] = {}
        for tensor in self.tensors.values():
            for name, loss in tensor.losses.items():
                bits[name] = min(loss.nbytes / tensor.weights, bits.get(name, float("inf")))
        return tuple(sorted(bits, key=lambda name: (bits[name], name)))

    def total(self, types: Mapping[str, str]) -> float | None:
        """What these types (by tensor name) cost together; None where one of them wasn't measured."""
        costs = [self.cost(name, type_) for name, type_ in types.items()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None


def rounded(value: float, digits: int = 6) -> float:
    """To as many digits as the file has, so that what was just measured is what will be read."""
    return float(f"{value:.{digits}g}")


def frozen(tensors: Mapping[str, TensorSensitivity]) -> Mapping[str, TensorSensitivity]:
    """The tensors as a mapping that nobody can change."""
    return MappingProxyType(dict(tensors))
