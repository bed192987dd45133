"""What the command line wishes of fit, as values: the budget, the goal, the encoder; and what is measured for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.measuring import measured
from quantrecipe.cli.named_recipes import print_notes
from quantrecipe.cli.output_files import model_stem

if TYPE_CHECKING:
    from quantrecipe.fit.open_recipe import Floor
    from quantrecipe.fit.reach import Goal
    from quantrecipe.fit.request import LikeBytes
    from quantrecipe.measure import Passes, Subject
    from quantrecipe.measure.encoded import Encoding
    from quantrecipe.recipe.budget import Budget
    from quantrecipe.recipe.recipe import EncoderChoice
    from quantrecipe.registry import Registry
    from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["budget_of", "encoder_of", "floor_of", "goal_of", "measured_now", "parts_of", "without_goal"]


def budget_of(
    ctx: Context,
    budget: Budget | None,
    like: str | None,
    like_bytes: LikeBytes,
    subject: Subject,
    *,
    encoded: bool,
    allow_requantize: bool,
) -> Budget:
    """The limits that were given, and the size of what the result is to be like."""
    from quantrecipe.cli.options.limits import COMMAND_LINE
    from quantrecipe.fit.request import like_budget
    from quantrecipe.fit.stock import recipe_like, stock_plan
    from quantrecipe.recipe.budget import Budget
    from quantrecipe.recipe.origin import Origin

    budget = budget or Budget(origin=Origin(file=COMMAND_LINE, line=0))
    if like is None:
        return budget
    taken: dict[str, list[tuple[str, object]]] = {
        "tensors": [("--bpw", budget.bpw)],
        "file": [("--size", budget.size)],
        "without-tables": [("--tables", budget.tables), ("--without-tables", budget.without_tables)],
    }
    for option, given in taken[like_bytes]:
        if given is not None:
            raise click.UsageError(f"--like and {option} exclude each other.")
    recipe = recipe_like(like, subject.registry)
    print_notes(ctx, recipe)
    if not encoded and (recipe.encoder is not None or any(rule.encoder for rule in recipe.rules)):
        what = f"fit measures what types lose without an encoder, and takes nothing but the size of {like}"
        print_warning(ctx.err, what, "--statistics FOLDER makes it measure and choose with the encoder")
    plan = stock_plan(
        recipe, subject.model, subject.registry, subject.importance, allow_requantize=allow_requantize
    )
    return like_budget(plan, budget, of=like_bytes)


def goal_of(budget: Budget, perplexity: float | None) -> Goal | None:
    """What is to be reached by measuring; None where the file's size alone is asked for."""
    from quantrecipe.fit.reach import Goal

    if perplexity is not None:
        return Goal(key="perplexity", most=perplexity)
    return None if budget.kld is None else Goal(key="kld", most=budget.kld)


def without_goal(budget: Budget, goal: Goal) -> Budget:
    """What a mix is fitted within to begin with: the other limits; where there are none, the loss as it is expected."""
    limits = replace(budget, kld=None)
    return limits if limits.limited else replace(limits, kld=goal.most)


def encoder_of(like: str | None, registry: Registry) -> EncoderChoice:
    """What makes the bytes where there are statistics: the encoder of what the result is to be like, else feedback."""
    from quantrecipe.fit.stock import recipe_like
    from quantrecipe.recipe.recipe import EncoderChoice

    found = None if like is None else recipe_like(like, registry).encoder
    return found if found is not None and found.name != "plain" else EncoderChoice(name="feedback")


def measured_now(
    ctx: Context,
    subject: Subject,
    passes: Passes | None,
    encoding: Encoding | None,
    probes: int,
    threads: int | None,
    work: Path,
    *,
    allow_requantize: bool,
    folder: Path | None = None,
) -> Sensitivity | None:
    """What types cost the model, as it is measured now; None where there are no weights, so that the prior is left.

    folder: where the file with it lies; None for the current one
    """
    if not subject.model.has_weights:
        print_warning(ctx.err, "a shape file has no weights to measure: losses are those of usual models")
        return None
    from quantrecipe.measure import Measurement, choose_types

    registry = subject.registry
    if passes is None:
        print_warning(
            ctx.err,
            "how much each tensor matters isn't measured, but taken as usual",
            "--text CALIBRATION finds out, and makes much better mixes",
        )
    what = Measurement(
        types=choose_types(registry),
        analysis=registry.tensor_analysis("error" if subject.importance is None else "imatrix"),
        weighing=None if passes is None else registry.model_analysis("probe"),
        probes=probes,
        passes=passes,
        encoding=encoding,
        work=work,
        threads=threads,
    )
    # Losses of an encoder are others: each has a file of its own.
    with_encoder = "" if encoding is None else f".{encoding.encoder.name}"
    out = (folder or Path()) / f"{model_stem(subject.model.path)}{with_encoder}.sensitivity.jsonl"
    found, _ = measured(ctx, subject, out, what, allow_requantize=allow_requantize)
    return found


def parts_of(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def floor_of(text: str) -> Floor:
    from quantrecipe.fit.open_recipe import Floor

    tensors, equals, type_ = text.rpartition("=")
    if not equals or not tensors.strip() or not type_.strip():
        raise click.BadParameter(f"{text!r} is no PATTERN=TYPE, such as attn_v=Q5_K", param_hint="--floor")
    return Floor(tensors=tensors.strip(), type=type_.strip())
