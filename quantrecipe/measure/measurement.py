"""Measurement: what is to be measured, and how; and of what: the types, and the tensors of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from quantrecipe.api import ModelAnalysis, QuantFormat, TensorAnalysis
from quantrecipe.errors import SensitivityError
from quantrecipe.importance import Importance
from quantrecipe.measure.prober import BASE_RECIPE, Passes
from quantrecipe.model.model import Model
from quantrecipe.plan.resolve import resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["DEFAULT_SAMPLE", "Measurement", "Subject", "choose_types", "quantizable"]

DEFAULT_SAMPLE = 1 << 20
"""Weights of each tensor: four seconds of each thread for a thousand million weights in all types."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What to measure, and how.

    types:    names of formats
    analysis: of losses
    weighing: of the model; None leaves alphas to the prior
    file:     for the weighing, if it reads one
    sample:   weights of each tensor; None for all rows
    probes:   at most
    passes:   how the model is run; None where it isn't
    work:     folder for temporary files
    """

    types: tuple[str, ...]
    analysis: TensorAnalysis
    weighing: ModelAnalysis | None = None
    file: Path | None = None
    sample: int | None = DEFAULT_SAMPLE
    probes: int = 0
    passes: Passes | None = None
    work: Path = Path()
    threads: int | None = None

    @property
    def key(self) -> dict[str, str]:
        """What losses depend on, besides tensors, formats and importance."""
        sampling = "all rows" if self.sample is None else f"{self.sample} weights of each tensor"
        return {"analysis": f"{self.analysis.name} {self.analysis.version}", "sampling": sampling}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is measured: a model, with its importance matrix if there is one, in the formats of a registry."""

    model: Model
    registry: Registry
    importance: Importance | None


def choose_types(registry: Registry, patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of formats, the smallest first. `patterns`: names or globs; without any, all of mainline's.

    SensitivityError for a pattern that finds nothing.
    """
    codecs = {name: fmt for name, fmt in registry.formats.items() if fmt.spec.codec}
    found: dict[str, QuantFormat] = {}
    if patterns:
        for pattern in patterns:
            here = [name for name in codecs if fnmatchcase(name.upper(), pattern.upper())]
            if not here:
                problem = registry.missing_format(pattern)
                raise SensitivityError(problem.what, problem.remedy)
            found |= {name: codecs[name] for name in here}
    else:
        found = {name: fmt for name, fmt in codecs.items() if fmt.spec.dialect == "ggml"}
    return tuple(sorted(found, key=lambda name: (found[name].spec.bits_per_weight, name)))


def quantizable(model: Model, registry: Registry) -> list[TensorInfo]:
    """The matrices that a recipe's default is about, in the order layer, name."""
    recipe = load_recipe(BASE_RECIPE, registry=registry)
    decisions = resolve(recipe, model, has_importance=False, covered=lambda tensor: False)
    return [decision.tensor for decision in decisions if decision.type != KEEP]
