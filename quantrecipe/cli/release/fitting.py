"""Mixes that are found for a budget: each becomes a recipe of the release, kept until something that it depends on
changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quantrecipe import __version__
from quantrecipe.cli.fit.wishes import budget_of, goal_of, measured_now, without_goal
from quantrecipe.cli.measuring import DEFAULT_PROBES, DEFAULT_TOKENS
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.planned.inputs import importance_of, sensitivity_in
from quantrecipe.cli.release.job import Job, MatrixMade, Wanted
from quantrecipe.cli.release.prepare import read_texts
from quantrecipe.evaluate import Text
from quantrecipe.recipe.budget import written_budget
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.release.record import key_of
from quantrecipe.release.release import NO_MATRIX, FitWish
from quantrecipe.sha256sums import hash_file

__all__ = ["fitted_recipe", "imatrix_of"]

_EVALUATIONS = 24
"""Mixes that are tried on search texts, at most: as many as `fit` tries."""


def imatrix_of(job: Job, wanted: Wanted, matrix: MatrixMade | None) -> Path | None:
    """The matrix that a file is made with: its own, or that of the release."""
    own = wanted.wish.imatrix
    if own:
        return None if own == NO_MATRIX else Path(own)
    return None if matrix is None else job.folder / matrix.path


def fitted_recipe(job: Job, wanted: Wanted, matrix: MatrixMade | None) -> Recipe:
    """The recipe of the best mix within the file's budget. PlanError where none keeps it."""
    wish = wanted.wish.fit
    if wish is None:
        raise AssertionError("a file without a recipe has a budget")
    imatrix = imatrix_of(job, wanted, matrix)
    domains = read_texts(job.release, wish.texts, wanted.wish.line)
    step = f"fit:{wanted.name}"
    key = key_of(
        model=job.model_key,
        matrix=None if imatrix is None else _matrix_digest(imatrix, job, matrix),
        wish=[
            written_budget(wish.budget),
            wish.like,
            wish.types,
            wish.prior,
            [(it.name, it.digest) for it in domains],
        ],
        sensitivity=None if job.release.sensitivity is None else hash_file(job.release.sensitivity),
        version=__version__,
    )
    text = job.record.result(step, key)
    if text is None:
        job.say(f"{wanted.name}: looking for the best mix")
        texts = texts_of(job.ctx, domains, lambda: job.model)
        text = _find(job, wish, wanted.label, imatrix, texts)
        job.record.put(step, key, text)
    return load_recipe_text(
        text, file=f"recipes/{wanted.name}.yaml", folder=job.folder / "recipes", registry=job.registry
    )


def _matrix_digest(path: Path, job: Job, matrix: MatrixMade | None) -> str:
    return matrix.sha256 if matrix is not None and path == job.folder / matrix.path else hash_file(path)


def _find(job: Job, wish: FitWish, name: str, imatrix: Path | None, texts: list[Text]) -> str:
    from quantrecipe.cli.progress import MeasureBar
    from quantrecipe.fit import Request, fit
    from quantrecipe.fit.measured_choice import measured_choice, require_length
    from quantrecipe.fit.tried import Effort
    from quantrecipe.measure import Passes, Subject

    ctx, work = job.ctx, job.work
    work.mkdir(parents=True, exist_ok=True)
    subject = Subject(
        model=job.model,
        registry=job.registry,
        importance=importance_of(job.model, imatrix, another_model=False),
        another_model=False,
    )
    budget = budget_of(
        ctx,
        wish.budget,
        wish.like or None,
        "tensors",
        subject,
        encoded=False,
        allow_requantize=job.allow_requantize,
    )
    goal = goal_of(budget, None) if texts else None
    if goal is not None:
        budget = without_goal(budget, goal)
    if texts:
        require_length(texts, "`texts`")
    passes = None
    if texts:
        passes = Passes(texts=tuple(texts), tokens=DEFAULT_TOKENS, threads=job.threads, engine=job.engine)
    if wish.prior or job.release.sensitivity is not None:
        known = sensitivity_in(job.release.sensitivity)
    else:
        known = measured_now(
            *(ctx, subject, passes, None, DEFAULT_PROBES, job.threads, work),
            allow_requantize=job.allow_requantize,
            folder=work,
        )
    request = Request(
        name=name, budget=replace(budget, ties=()), types=wish.types, allow_requantize=job.allow_requantize
    )
    request = replace(request, ties=tuple(tuple(map(str, tie)) for tie in wish.budget.ties))
    fitted = fit(job.model, request, job.registry, importance=subject.importance, sensitivity=known)
    if passes is not None and known is not None:
        with MeasureBar(ctx.err) as progress:
            fitted = measured_choice(
                fitted,
                subject,
                passes,
                Effort(evaluations=_EVALUATIONS),
                sensitivity=known,
                out=work / "evaluations.jsonl",
                work=work,
                progress=progress,
                goal=goal,
            )
    return fitted.text
