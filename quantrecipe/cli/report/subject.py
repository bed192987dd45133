"""Subject: what a report is about: a plan, or a file that is there, with what is known of how it came to be.

A file that quantrecipe made has its recipe in it. Of any other a recipe is inferred from its types. In both cases the
types that are shown are those of the file, and the recipe says which rule would have given each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from quantrecipe.errors import QuantrecipeError
from quantrecipe.pictures.layer_map import folded_role
from quantrecipe.plan.review.recorded import AS_WRITTEN, recorded_recipe, why_unknown
from quantrecipe.plan.review.sides import Side, side_of_model, side_of_plan
from quantrecipe.recipe.load import load_recipe_text

if TYPE_CHECKING:
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.importance.coverage import Coverage
    from quantrecipe.model.model import Model
    from quantrecipe.plan.layout import SplitLimits
    from quantrecipe.plan.plan import Plan
    from quantrecipe.plan.trace import Trace
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["Subject", "subject_of_file", "subject_of_plan", "with_folded_roles"]

Origin = Literal["given", "recorded", "inferred", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a page is about.

    side:      its tensors, with their types, sizes and what decided
    model:     what was planned on, as the output has it; of a file, the file itself
    origin:    where the recipe comes from: the command line, the file's header, or the file's types
    recipe:    None where there is none, or it can't be read
    text:      the recipe's text, "" where there is none
    trace:     which rules name which tensors; None where that can't be told
    old_names: the names before pruning of tensors that layers were pruned around, by the names that they have
    notes:     what is to be known of all this
    plan:      None of a file
    """

    side: Side
    model: Model
    origin: Origin
    recipe: Recipe | None = None
    text: str = ""
    trace: Trace | None = None
    old_names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    plan: Plan | None = None
    coverage: Coverage | None = None


def subject_of_plan(
    label: str, recipe: Recipe, model: Model, inputs: PlanInputs, split: SplitLimits | None = None
) -> Subject:
    """What a recipe makes of a model. Errors as `make_plan`."""
    from quantrecipe.planning import plan_resolved

    resolution = inputs.resolve(recipe, model, split)
    plan = plan_resolved(resolution, inputs.costs)
    return Subject(
        side=side_of_plan(label, plan, recipe),
        model=plan.model,
        origin="given",
        recipe=recipe,
        text=recipe.text,
        trace=resolution.trace,
        old_names=resolution.old_names,
        notes=plan.warnings,
        plan=plan,
        coverage=plan.coverage,
    )


def subject_of_file(label: str, model: Model, inputs: PlanInputs) -> Subject:
    """What a GGUF holds. Nothing that can't be found out about its recipe is an error."""
    registry = inputs.registry
    side = side_of_model(label, model)
    recorded = recorded_recipe(model, registry)
    if recorded is not None and not recorded.outdated:
        origin: Origin = "recorded"
        text, notes = recorded.text, [recorded.sentence]
    else:
        text, more = _inferred(model, registry)
        origin = "inferred" if text else "none"
        notes = [recorded.sentence if recorded else "", *more]
    recipe, trace, why = _traced(text, model, registry) if text else (None, None, "")
    if trace is not None:
        side = _with_reasons(side, trace)
    covered, said = _coverage(side, model, inputs)
    return Subject(
        side=replace(side, recipe=recipe),
        model=model,
        origin=origin,
        recipe=recipe,
        text=text,
        trace=trace,
        notes=tuple(filter(None, (*notes, why, said))),
        coverage=covered,
    )


def with_folded_roles(side: Side) -> Side:
    """The side with `*` for numbers within roles: experts that are tensors of their own are told of together."""
    return replace(
        side,
        tensors={
            name: replace(fate, tensor=replace(fate.tensor, role=folded_role(fate.tensor)))
            for name, fate in side.tensors.items()
        },
    )


def _inferred(model: Model, registry: Registry) -> tuple[str, tuple[str, ...]]:
    from quantrecipe.exchange.from_files.recover import recover

    try:
        found = recover(model, registry, name="inferred")
    except QuantrecipeError as error:
        return "", (f"no recipe can be inferred from the types: {error.problems[0].what}",)
    return found.text, found.notes


def _traced(text: str, model: Model, registry: Registry) -> tuple[Recipe | None, Trace | None, str]:
    """The recipe, which of its rules name which tensors, and why that can't be told."""
    from quantrecipe.plan.metadata import IMPORTANCE_DIGEST
    from quantrecipe.plan.resolution import resolve
    from quantrecipe.plan.trace import covers_none

    try:
        recipe = load_recipe_text(text, file="recipe", registry=registry)
    except QuantrecipeError as error:
        return None, None, f"the recipe can't be read here: {error.problems[0].what}"
    if why := why_unknown(recipe):
        return recipe, None, f"which rule decided which tensor isn't known: {why}"
    covered = covers_none if IMPORTANCE_DIGEST in model.metadata else None
    order = [tensor.name for tensor in model.tensors]
    try:
        found = resolve(recipe, model, registry, settings=AS_WRITTEN, covered=covered, order=order).trace
    except QuantrecipeError as error:
        return recipe, None, f"which rule decided which tensor isn't known: {error.problems[0].what}"
    return recipe, found, ""


def _with_reasons(side: Side, trace: Trace) -> Side:
    """The side with what decides each tensor."""
    tensors = {}
    known = {tensor.name: tensor for tensor in trace.tensors}
    for name, fate in side.tensors.items():
        decision = trace.decision(known[name])
        tensors[name] = replace(fate, because=decision.because, why=decision.why)
    return replace(side, tensors=tensors)


def _coverage(side: Side, model: Model, inputs: PlanInputs) -> tuple[Coverage | None, str]:
    """How the matrix that was named covers the tensors whose types use one. ImportanceError for another model's."""
    from quantrecipe.cli.planned.inputs import importance_of
    from quantrecipe.importance.coverage import coverage

    matrix = importance_of(model, inputs.imatrix, another_model=inputs.another_model)
    if matrix is None:
        return None, ""
    formats = inputs.registry.formats
    asked = [
        fate.tensor
        for fate in side.tensors.values()
        if fate.type in formats and formats[fate.type].spec.importance != "ignored"
    ]
    said = "the matrix is the one that was named; whether the file was made with it isn't known"
    return coverage(asked, matrix, model=model.tensors), said
