"""Source: the model that another program quantizes, as far as a plan has to know it, and what recipes make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from quantrecipe.errors import PlanError
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import FLOATS, choose_format, fallback_chain
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.facts import model_facts
from quantrecipe.plan.resolve import Trace, resolve, trace
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.parse import RecipePart
from quantrecipe.recipe.recipe import Recipe, Rule
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["Planned", "Source"]

_FLOAT = "BF16"


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
        """The source of a quantized model: its matrices as floats, and without the tensors that quantizing added."""
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
        """Names of the tensors that a recipe's `default` is about: what is ever quantized."""
        everything = RecipePart(file="", rules=(Rule.of(["regex:."], type="F32"),))
        found = trace(
            load_part(everything, registry=self.registry),
            self.model,
            has_importance=False,
            covered=lambda _: False,
        )
        return frozenset(found.decided)

    @cached_property
    def n_layers(self) -> int:
        """Layers, without nextn blocks."""
        return int(model_facts(self.model, has_importance=False)["n_layers"])

    def trace(self, recipe: Recipe) -> Trace:
        """Which rule of the recipe decides which tensor."""
        return trace(recipe, self.model, has_importance=self.importance, covered=lambda _: self.importance)

    def planned(self, recipe: Recipe) -> dict[str, Planned] | None:
        """What each tensor gets; None where the recipe can't be planned for the model."""
        planned = {}
        try:
            for decision in resolve(
                recipe, self.model, has_importance=self.importance, covered=lambda _: self.importance
            ):
                choice = choose_format(
                    decision, recipe, self.model, self.registry, strict=False, allow_requantize=False
                )
                type_ = choice.format.spec.name
                planned[decision.tensor.name] = Planned(choice.wanted or type_, type_)
        except PlanError:
            return None
        return planned

    def fallback(self, wanted: str, tensor: TensorInfo) -> str:
        """The type, or the first of its fallbacks that accepts the tensor."""
        fallbacks = {fmt.spec.name: fmt.spec.fallback for fmt in self.registry.formats.values()}
        for name in (wanted, *fallback_chain(wanted, fallbacks)):
            if self.registry.format(name).accepts(tensor) is None:
                return name
        return wanted


def _has_codec(type_: str, registry: Registry) -> bool:
    fmt = registry.formats.get(type_)
    return fmt is None or fmt.spec.codec
