"""PlanInputs: what a command line says of how to plan, besides recipe and model; files are read when needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantrecipe.calibration.gram import Grams
    from quantrecipe.importance.matrix import Importance
    from quantrecipe.model.model import Model
    from quantrecipe.plan.layout import SplitLimits
    from quantrecipe.plan.plan import Plan
    from quantrecipe.plan.resolution import Resolution
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry
    from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["PlanInputs", "grams_in", "importance_in", "importance_of", "sensitivity_in"]


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """What all plans of a command have in common.

    imatrix:        the importance matrix, instead of the recipe's
    another_model:  it may say that it is another model's
    assume_imatrix: plan as if there were a matrix that covers everything
    sensitivity:    what types cost, for rules that leave the choice open
    statistics:     a folder of Gram matrices, for encoders that need them
    strict, allow_requantize, provenance: as in `plan.resolution.PlanSettings`
    """

    registry: Registry
    imatrix: Path | None = None
    another_model: bool = False
    assume_imatrix: bool = False
    sensitivity: Path | None = None
    strict: bool = False
    allow_requantize: bool = False
    provenance: bool = True
    statistics: Path | None = None
    _matrices: dict[Path | None, Importance | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _compared: set[tuple[Path | None, Path]] = field(
        default_factory=set, init=False, repr=False, compare=False
    )

    @cached_property
    def costs(self) -> Sensitivity | None:
        """What the sensitivity file has; None where none is named."""
        return sensitivity_in(self.sensitivity)

    def importance(self, recipe: Recipe, model: Model) -> Importance | None:
        """The matrix that a plan of this recipe goes by; None where there is none. ImportanceError where it is another
        model's.
        """
        if self.assume_imatrix:
            from quantrecipe.importance.coverage import assumed_importance

            return assumed_importance(model.tensors)
        path = self.imatrix or recipe.importance.file
        if path not in self._matrices:
            self._matrices[path] = importance_in(path)
        matrix = self._matrices[path]
        if not self.another_model and (path, model.path) not in self._compared:
            from quantrecipe.plan.importance import require_matrix_of

            require_matrix_of(model, matrix)
            self._compared.add((path, model.path))
        return matrix

    @cached_property
    def grams(self) -> Grams | None:
        """The Gram matrices of the folder; None where none is named."""
        return grams_in(self.statistics)

    def resolve(
        self, recipe: Recipe, model: Model, split: SplitLimits | None = None, grams: Grams | None = None
    ) -> Resolution:
        """The recipe held against the model; nothing that keeps it from being planned is refused yet.

        grams: statistics of the model's inputs, instead of those of the folder
        """
        grams = self.grams if grams is None else grams
        from quantrecipe.plan.resolution import PlanSettings, resolve

        settings = PlanSettings(
            strict=self.strict,
            allow_requantize=self.allow_requantize,
            provenance=self.provenance,
            split=split,
        )
        if grams is not None:
            from quantrecipe.plan.importance import require_statistics_of

            require_statistics_of(model, grams)
        matrix = self.importance(recipe, model)
        return resolve(recipe, model, self.registry, matrix, settings, statistics=grams)

    def plan(
        self, recipe: Recipe, model: Model, split: SplitLimits | None = None, grams: Grams | None = None
    ) -> Plan:
        """The plan. Errors as `quantrecipe.make_plan`."""
        from quantrecipe.planning import plan_resolved

        return plan_resolved(self.resolve(recipe, model, split, grams), self.costs)


def grams_in(path: Path | None) -> Grams | None:
    """The Gram matrices in a folder; None where none is named."""
    if path is None:
        return None
    from quantrecipe.calibration.gram import read_gram

    return read_gram(path)


def importance_in(path: Path | None) -> Importance | None:
    """The importance matrix in a file; None where none is named."""
    if path is None:
        return None
    from quantrecipe.importance.read_importance import read_importance

    return read_importance(path)


def importance_of(model: Model, path: Path | None, *, another_model: bool) -> Importance | None:
    """The importance matrix in a file. ImportanceError where it says it is another model's, unless it may be."""
    matrix = importance_in(path)
    if not another_model:
        from quantrecipe.plan.importance import require_matrix_of

        require_matrix_of(model, matrix)
    return matrix


def sensitivity_in(path: Path | None) -> Sensitivity | None:
    """What a sensitivity file has; None where none is named."""
    if path is None:
        return None
    from quantrecipe.sensitivity.file import read_sensitivity

    return read_sensitivity(path)
