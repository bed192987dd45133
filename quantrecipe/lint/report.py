"""lint: one recipe, from its file to everything that there is to say of it, in the order of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import QuantrecipeError
from quantrecipe.lint.comments import apply_allowances, cut_texts, reasons
from quantrecipe.lint.conditions import conditions
from quantrecipe.lint.finding import GENERAL, SEVERITIES, Finding
from quantrecipe.lint.idle import idle_rules
from quantrecipe.lint.outcomes import labels, misfits, reached
from quantrecipe.lint.quality import floors, importance, yardsticks
from quantrecipe.lint.subject import GivenModel, Subject, look
from quantrecipe.lint.target import where_it_runs
from quantrecipe.recipe.load import load_recipe, load_recipe_text, recipe_place
from quantrecipe.recipe.reading.yaml_document import MAX_BYTES
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.targets import Targets

__all__ = ["Report", "lint", "lint_text"]

_MOST_QUESTIONS = 4_000_000
"""Whether a rule is about a tensor; a million take about a second. Rules are hundreds only where they were imported."""

_LINTS = (reasons, idle_rules, conditions, misfits, reached, labels, importance, floors, where_it_runs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was found in one recipe.

    ref:     as it was asked for
    recipe:  None where it couldn't be loaded
    fits:    the reference models on which every rule of the file has something to do
    checked: the models that it was checked on
    """

    ref: str
    recipe: Recipe | None
    findings: tuple[Finding, ...]
    fits: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if there is no error."""
        return not any(finding.severity == "error" for finding in self.findings)


def lint(
    ref: str,
    *,
    registry: Registry,
    targets: Targets,
    models: Sequence[GivenModel] = (),
    settings: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Report:
    """Everything that there is to say of the recipe of a path or name; never raises for what is wrong with it."""
    text = _text(ref, registry)
    try:
        recipe = load_recipe(ref, registry=registry, settings=settings)
    except QuantrecipeError as error:
        return _refused(ref, error)
    return _judged(ref, recipe, text, registry, targets, models, strict=strict)


def lint_text(
    text: str,
    *,
    file: str,
    folder: Path,
    registry: Registry,
    targets: Targets,
    models: Sequence[GivenModel] = (),
) -> Report:
    """The same of a recipe that is no file yet. file: what it is called; folder: from where it names other files"""
    try:
        recipe = load_recipe_text(text, file=file, folder=folder, registry=registry)
    except QuantrecipeError as error:
        return _refused(file, error)
    return _judged(file, recipe, text, registry, targets, models, strict=False)


def _refused(ref: str, error: QuantrecipeError) -> Report:
    refused = (Finding.of(problem.code or GENERAL, problem) for problem in error.problems)
    return Report(ref=ref, recipe=None, findings=tuple(_sorted(refused)))


def _judged(
    ref: str,
    recipe: Recipe,
    text: str | None,
    registry: Registry,
    targets: Targets,
    models: Sequence[GivenModel],
    *,
    strict: bool,
) -> Report:
    models = _affordable(models, recipe)
    subject = look(recipe, models, registry, targets, strict=strict)
    findings = [*subject.failed, *_all(subject, models)]
    if text is not None:
        findings += cut_texts(text, recipe.file)
        thorough = any(model.reference for model in models)
        findings = apply_allowances(text, recipe.file, findings, thorough=thorough)
    return Report(
        ref=ref,
        recipe=recipe,
        findings=tuple(_sorted(findings)),
        fits=tuple(view.name for view in subject.views if view.reference and not view.bare.problems),
        checked=tuple(view.name for view in subject.views),
    )


def _affordable(models: Sequence[GivenModel], recipe: Recipe) -> tuple[GivenModel, ...]:
    """Every given model, and as many reference models as so many rules leave time for, small ones first."""
    left = _MOST_QUESTIONS // max(1, len(recipe.rules))
    chosen: set[str] = set()
    for it in sorted(models, key=lambda it: (len(it.model.tensors), it.name)):
        left -= len(it.model.tensors) if it.reference else 0
        if left >= 0 or not it.reference:
            chosen.add(it.name)
    return tuple(it for it in models if it.name in chosen)


def _all(subject: Subject, models: tuple[GivenModel, ...]) -> Iterator[Finding]:
    for check in _LINTS:
        yield from check(subject)
    yield from yardsticks(subject, models)


def _text(ref: str, registry: Registry) -> str | None:
    """The text of the recipe's own file; None where it can't be read."""
    try:
        text = recipe_place(ref, registry).read()
    except QuantrecipeError:
        return None
    return text if len(text) <= MAX_BYTES else None


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, by line; those of one line by how serious they are."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda it: (it.problem.line or 0, SEVERITIES.index(it.severity), it.code, it.problem.what),
    )
