"""Pair: what a page is about, and what that is compared with; from words on a command line to both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantrecipe.cli.context import Context
from quantrecipe.cli.named_recipes import load_recipes
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.planned.planning import PlanOptions, load_planned
from quantrecipe.cli.planned.running_table import render_runs
from quantrecipe.cli.report.subject import Subject, subject_of_file, subject_of_plan
from quantrecipe.cli.tables.markup import html_of
from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.not_a_model import require_model
from quantrecipe.model.open_model import located, open_model

__all__ = ["Pair", "pair_of_files", "pair_of_plans"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What the page is about, what that is compared with, and what both are made from.

    path:  of the model, or of the file
    model: for other mixes, before any of its layers is pruned
    runs:  what it takes where it runs, as HTML
    """

    subject: Subject
    other: Subject | None
    model: Model
    path: Path
    inputs: PlanInputs
    runs: str = ""


def pair_of_plans(
    ctx: Context, recipes: Sequence[str], model: str, base: str | None, options: PlanOptions
) -> Pair:
    """One or two plans on a model."""
    planned = load_planned(ctx, recipes, located(model), options)
    *others, (name, recipe) = list(zip(recipes, planned.recipes, strict=True))
    if base is not None:  # what limits the recipe is no matter of what it is compared with
        others = [(base, load_recipes(ctx, [base], planned.inputs.registry)[0])]
    inputs = planned.inputs
    subject = subject_of_plan(name, recipe, planned.model, inputs, planned.split)
    lenient = replace(inputs, strict=False)
    other = [subject_of_plan(label, it, planned.model, lenient, planned.split) for label, it in others]
    return Pair(
        subject=subject,
        other=other[0] if other else None,
        model=planned.model,
        path=planned.model.path,
        inputs=inputs,
        runs=_runs(subject, options),
    )


def _runs(subject: Subject, options: PlanOptions) -> str:
    if options.running is None or subject.plan is None:
        return ""

    return html_of(render_runs(subject.plan, options.running), caption="What it takes where it runs")


def pair_of_files(ctx: Context, models: Sequence[str], base: str | None, options: PlanOptions) -> Pair:
    """One or two GGUF files; or one, and what a recipe would make of it."""
    registry = ctx.load_registry()
    inputs = PlanInputs(
        registry=registry,
        imatrix=options.imatrix,
        another_model=options.another_model,
        sensitivity=options.sensitivity,
        allow_requantize=True,
    )
    opened = [open_model(located(word), registry=registry) for word in models]
    for model in opened:
        require_model(model)
        if model.container != "gguf":
            raise ModelError(
                "isn't quantized",
                "name the recipe that is to make something of it before it, or give a GGUF",
                file=model.path,
            )
    *others, subject = [
        subject_of_file(word, model, inputs) for word, model in zip(models, opened, strict=True)
    ]
    if others and not others[0].side.tensors.keys() & subject.side.tensors.keys():
        raise ModelError(
            f"has no tensor in common with {models[0]}", "compare files of one model", file=models[1]
        )
    if base is not None:
        (recipe,) = load_recipes(ctx, [base], registry)
        others = [subject_of_plan(base, recipe, opened[0], inputs)]
    return Pair(
        subject=subject,
        other=others[0] if others else None,
        model=opened[-1],
        path=opened[-1].path,
        inputs=inputs,
    )
