"""Source: the model that another program quantizes, as far as a plan has to know it, and what recipes make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from quantrecipe.errors import PlanError
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import FLOATS, choose_format
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.resolution import resolve
from quantrecipe.plan.trace import Covered, Trace, covers_all, trace
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import Recipe, Rule
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["Planned", "Source"]

_FLOAT = "BF16"
"""What matrices are taken to have been: no rule asks which float it is."""


class Planned(NamedTuple):
    """The type that a recipe asks for, and the one that the tensor gets."""

    wanted: str
    type: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A model, and what its tensors may become.

    importance: True where there is an importance matrix; it is taken to cover everything
    """

    model: Model
    registry: Registry
    importance: bool = False

    @classmethod
    def of(cls, model: Model, registry: Registry, *, importance: bool = False) -> Source:
        """Return the source of a quantized model: with floats in its matrices, and without tensors that were added."""
        companions = {
            companion_name(tensor, fmt.spec.companion)
            for tensor in model.tensors
            if (fmt := registry.formats.get(tensor.dtype)) is not None and fmt.spec.companion
        }
        matrices = cls(model=model, registry=registry).reached
        tensors = tuple(
            replace(tensor, dtype=_FLOAT)
            if tensor.name in matrices or (tensor.dtype not in FLOATS and _has_codec(tensor.dtype, registry))
            else tensor
            for tensor in model.tensors
            if tensor.name not in companions
        )
        return cls(model=replace(model, tensors=tensors), registry=registry, importance=importance)

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """The tensors of the model."""
        return self.model.tensors

    @cached_property
    def reached(self) -> frozenset[str]:
        """The names of the tensors that are ever quantized: those that a recipe's `default` is about."""
        everything = RecipePart(file="", rules=(Rule.of(["regex:."], type="F32"),))
        return frozenset(trace(load_part(everything, registry=self.registry), self.model).decided)

    @property
    def covered(self) -> Covered | None:
        """What the importance matrix covers."""
        return covers_all if self.importance else None

    def trace(self, recipe: Recipe) -> Trace:
        """Say which rule of the recipe decides which tensor."""
        return trace(recipe, self.model, covered=self.covered)

    def decided(self, recipe: Recipe) -> list[frozenset[str]]:
        """Return the names of the tensors that each of the recipe's own rules decides."""
        names: dict[int, set[str]] = {}
        for name, rule in self.trace(recipe).decided.items():
            names.setdefault(id(rule), set()).add(name)
        return [frozenset(names.get(id(rule), ())) for rule in recipe.rules if rule.own]

    def planned(self, recipe: Recipe) -> dict[str, Planned] | None:
        """Say what each tensor gets; None if the recipe can't be planned for the model."""
        planned = {}
        try:
            resolution = resolve(recipe, self.model, self.registry, covered=self.covered)
            for decision in resolution.decisions:
                choice = choose_format(decision, resolution)
                type_ = choice.format.spec.name
                planned[decision.tensor.name] = Planned(choice.wanted or type_, type_)
        except PlanError:
            return None
        return planned

    def fallback(self, wanted: str, tensor: TensorInfo) -> str:
        """Return the type if it accepts the tensor, else the first of its fallbacks that does."""
        fitting = (fmt.spec.name for fmt in self.registry.chain(wanted) if fmt.accepts(tensor) is None)
        return next(fitting, wanted)


def _has_codec(type_: str, registry: Registry) -> bool:
    fmt = registry.formats.get(type_)
    return fmt is None or fmt.spec.codec
