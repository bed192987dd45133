"""Sides of a comparison: whatever says which type each tensor of a model has.

A side is a plan, a GGUF that is there, or a lock (`lock.side_of_lock`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.plain_data import rounded_bits
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.remote_files import file_size
from quantrecipe.tensor import TensorInfo, head_name, is_table

__all__ = ["Fate", "Side", "fates_of", "side_of_model", "side_of_plan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """What one side makes of a tensor; `because` and `why` as in Assignment."""

    tensor: TensorInfo
    type: str
    nbytes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    because: str = ""
    why: str = ""
    wanted: str | None = None
    importance: bool | None = None

    @property
    def label(self) -> str:
        """The type, with the options that aren't the usual ones."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.type} ({options})" if options else self.type

    def differs(self, other: Fate) -> bool:
        """True if the data in the file would be another, as far as this can be said from headers."""
        if None not in (self.importance, other.importance) and self.importance != other.importance:
            return True
        return (self.type, self.options, self.nbytes, self.tensor.shape) != (
            other.type,
            other.options,
            other.nbytes,
            other.tensor.shape,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One side of a comparison.

    label:    as the user named it
    nbytes:   of all files together
    metadata: of the output; None where this side doesn't say
    recipe:   None where there is none
    """

    label: str
    tensors: Mapping[str, Fate]
    nbytes: int
    metadata: Mapping[str, GGUFValue] | None = None
    recipe: Recipe | None = None
    warnings: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """Number of weights of all tensors together."""
        return sum(fate.tensor.size for fate in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight of all tensors' data together."""
        return 8 * sum(fate.nbytes for fate in self.tensors.values()) / max(1, self.weights)

    @property
    def tables_nbytes(self) -> int:
        """Bytes of the tables of which a token reads a row."""
        head = head_name(fate.tensor for fate in self.tensors.values())
        return sum(fate.nbytes for fate in self.tensors.values() if is_table(fate.tensor, head))

    def totals(self, cost: float | None) -> dict[str, Any]:
        """What is printed of the whole side. `cost`: the estimated error, None where it isn't known."""
        return {
            "side": self.label,
            "nbytes": self.nbytes,
            "tensors_nbytes": sum(fate.nbytes for fate in self.tensors.values()),
            "tables_nbytes": self.tables_nbytes,
            "bits_per_weight": rounded_bits(self.bits_per_weight),
            "estimated_error": cost,
            "warnings": self.warnings,
        }


def side_of_plan(label: str, plan: Plan, recipe: Recipe) -> Side:
    """What a recipe makes of a model."""
    return Side(
        label=label,
        tensors=fates_of(plan),
        nbytes=plan.nbytes,
        metadata=plan.metadata,
        recipe=recipe,
        warnings=plan.warnings,
    )


def fates_of(plan: Plan) -> dict[str, Fate]:
    """What a plan makes of each tensor, by its name."""
    return {a.tensor.name: _fate(a) for a in plan.assignments}


def side_of_model(label: str, model: Model) -> Side:
    """What a GGUF holds."""
    return Side(
        label=label,
        tensors={
            t.name: Fate(tensor=t, type=t.dtype, nbytes=model.sources[t.name].nbytes) for t in model.tensors
        },
        nbytes=sum(map(file_size, model.files)),
        metadata=model.metadata,
    )


def _fate(a: Assignment) -> Fate:
    return Fate(
        tensor=a.tensor,
        type=a.type,
        nbytes=a.nbytes,
        options=dict(a.format.options),
        because=a.because,
        why=a.why,
        wanted=a.wanted,
        importance=a.importance,
    )
