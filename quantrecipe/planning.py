"""make_plan: from a recipe and a model to a plan, for everybody who doesn't care about the steps between.

    resolve   the recipe is held against the model                      plan/
    allocate  what it leaves open is chosen within its budget           allocate/
    plan      every tensor's type, size and place                       plan/

This stands above both folders, so that `plan/` knows nothing of budgets. What chooses is imported where something is
to be chosen, so that most plans don't wait for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import PlanError
from quantrecipe.model.model import Model
from quantrecipe.model.not_a_model import require_model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.importance import require_matrix_of, require_statistics_of
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, Resolution, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

if TYPE_CHECKING:
    from quantrecipe.importance.matrix import Importance
    from quantrecipe.plan.statistics import Statistics
    from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["make_plan", "plan_resolved"]


def make_plan(
    recipe: Recipe | str | Path,
    model: Model | str | Path,
    *,
    registry: Registry | None = None,
    importance: Importance | str | Path | None = None,
    importance_of_another_model: bool = False,
    strict: bool = False,
    allow_requantize: bool = False,
    provenance: bool = True,
    split: SplitLimits | None = None,
    sensitivity: Sensitivity | str | Path | None = None,
    statistics: Statistics | None = None,
) -> Plan:
    """Resolve a recipe against a model, from headers alone.

    Paths and names stand for what the command line opens by them. With the path of a recipe, the matrix that it names
    is read, too. `importance` is the matrix, of which the recipe may let only a part count. Where it states the
    fingerprint of its model, the model's norms are read and compared, unless `importance_of_another_model` says that it
    may be another's, such as the base model's of a fine-tune. `strict` refuses every fallback, `allow_requantize` lets
    quantized sources be quantized again, `provenance` records recipe and hashes in the output,
    `split` says when to begin another file. `sensitivity` is what `choose` rules go by: what each type costs each
    tensor, as measured; None: the prior. `statistics` are the Gram matrices of the model's inputs, which some encoders
    need (`calibration.gram.read_gram`); they are compared as the matrix is.

    Raises ModelError where the file holds something else than a model (an adapter), PlanError with every problem
    found, ImportanceError where a matrix is needed and missing, doesn't fit the model, or is another model's.
    """
    registry = registry or load_registry()
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, registry=registry)
        importance = importance or recipe.importance.file
    if not isinstance(model, Model):
        model = open_model(model, registry=registry)
    if isinstance(importance, str | Path):
        from quantrecipe.importance.read_importance import read_importance

        importance = read_importance(importance)
    if isinstance(sensitivity, str | Path):
        from quantrecipe.sensitivity.file import read_sensitivity

        sensitivity = read_sensitivity(sensitivity)
    if not importance_of_another_model:
        require_matrix_of(model, importance)
    require_statistics_of(model, statistics)
    settings = PlanSettings(
        strict=strict, allow_requantize=allow_requantize, provenance=provenance, split=split
    )
    resolution = resolve(
        recipe, model, registry or load_registry(), importance, settings, statistics=statistics
    )
    return plan_resolved(resolution, sensitivity)


def plan_resolved(resolution: Resolution, sensitivity: Sensitivity | None = None) -> Plan:
    """The plan of a resolution: what it leaves open is chosen first, and its budget is kept. Errors as `make_plan`."""
    model = resolution.model
    require_model(model)
    if not model.arch:
        raise PlanError(
            f"{model.path} doesn't say which architecture it is",
            "name it with --arch, or put the model's config.json beside it",
        )
    if resolution.open:
        from quantrecipe.allocate.allocate import allocate
        from quantrecipe.allocate.losses import Losses

        return allocate(resolution, Losses(model, resolution.registry, sensitivity, resolution.old_names))
    plan = plan_of(resolution)
    if resolution.recipe.budget is None or not resolution.recipe.budget.limited:
        return plan
    from quantrecipe.allocate.allocate import keep_budget
    from quantrecipe.allocate.losses import Losses

    losses = Losses(model, resolution.registry, sensitivity, resolution.old_names)
    return keep_budget(plan, resolution.recipe.budget, losses)
