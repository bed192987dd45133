"""A recipe's text as somebody edits it: its problems, as `check` has them, its plan, and the files that it makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quantrecipe.errors import Problem, QuantrecipeError
from quantrecipe.exchange.to_commands.llama_quantize import to_llama_quantize
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.lint.finding import Finding
from quantrecipe.lint.report import lint_text
from quantrecipe.lint.subject import GivenModel
from quantrecipe.plan.importance import require_matrix_of
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.review.lock import make_lock
from quantrecipe.plan.review.lock_file import lock_text
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.studio.opened import Opened
from quantrecipe.targets import load_targets

__all__ = ["Edited", "What", "edited", "file_of", "made_file", "problem_documents", "recipe_of"]

_NAME = re.compile(r"""^name:[ \t]+["']?([^"'#\n]+)""", re.MULTILINE)

What = Literal["recipe", "lock", "llama-quantize"]
_SEVERITIES = {"error": "error", "warning": "warning", "advice": "note"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """A text, what there is to say of it, and what it makes of the model; None where it makes nothing.

    file: what messages call it
    """

    text: str
    file: str
    findings: tuple[Finding, ...]
    recipe: Recipe | None = None
    plan: Plan | None = None


def file_of(text: str) -> str:
    """The name of the file that a text is to become. The file that is made records it, so its size depends on it."""
    match = _NAME.search(text)
    return f"{_file_stem(match[1] if match else '')}.yaml"


def recipe_of(opened: Opened, text: str, folder: Path) -> Recipe:
    """The recipe of a text. RecipeError as `load_recipe`. folder: from where it names other files"""
    return load_recipe_text(text, file=file_of(text), folder=folder, registry=opened.knows.registry)


def edited(opened: Opened, text: str, folder: Path) -> Edited:
    """Check a text, and plan by it. folder: from where it names other files"""
    registry, file = opened.knows.registry, file_of(text)
    given = GivenModel(name=str(opened.model.path), model=opened.model)
    report = lint_text(
        text, file=file, folder=folder, registry=registry, targets=load_targets(), models=[given]
    )
    if report.recipe is None:
        return Edited(text=text, file=file, findings=report.findings)
    try:
        plan = _plan(opened, report.recipe)
    except QuantrecipeError as error:
        more = () if not report.ok else tuple(Finding.of("QR001", it) for it in error.problems)
        return Edited(text=text, file=file, findings=(*report.findings, *more), recipe=report.recipe)
    return Edited(text=text, file=file, findings=report.findings, recipe=report.recipe, plan=plan)


def made_file(opened: Opened, text: str, what: What, folder: Path) -> tuple[str, str]:
    """The name of a file, and what is in it. QuantrecipeError where the text makes none."""
    recipe = recipe_of(opened, text, folder)
    stem = file_of(text).removesuffix(".yaml")
    if what == "recipe":
        return file_of(text), text
    plan = _plan(opened, recipe)
    if what == "lock":
        return f"{stem}.lock", lock_text(make_lock(plan, opened.knows.registry))
    exported = to_llama_quantize(plan, recipe, opened.knows.registry)
    notes = "".join(f"# {line}\n" for note in exported.notes for line in note.splitlines())
    return f"{stem}.sh", notes + exported.text


def _plan(opened: Opened, recipe: Recipe) -> Plan:
    matrix = None
    if opened.importance is None and recipe.importance.file is not None:
        matrix = _matrix(opened, recipe.importance.file)
    return opened.plan(recipe, matrix)


def _matrix(opened: Opened, path: Path) -> Importance:
    """The matrix that a text names. ImportanceError where it is no matrix, or another model's."""
    matrix = read_importance(path)
    if not opened.knows.another_model:
        require_matrix_of(opened.model, matrix)
    return matrix


def problem_documents(found: Edited) -> list[dict[str, Any]]:
    """What the page shows of the findings, in the order of lines; places count from 1."""
    lines = found.text.splitlines()
    documents = [
        {
            **_place(it.problem, found.file, lines),
            "severity": _SEVERITIES[it.severity],
            "code": it.code or None,
            "message": _message(it.problem, found.file),
            "remedy": "\n".join(filter(None, (it.problem.remedy, *it.problem.choices))) or None,
        }
        for it in found.findings
    ]
    return sorted(documents, key=lambda it: (it["line"] or 0, it["column"] or 0))


def _message(problem: Problem, file: str) -> str:
    """What is wrong, with the place where that is another file."""
    if problem.file is None or str(problem.file) == file:
        return problem.what
    where = f"{problem.file}:{problem.line}" if problem.line else str(problem.file)
    return f"{where}: {problem.what}"


def _place(problem: Problem, file: str, lines: Sequence[str]) -> dict[str, int | None]:
    """From the column, or from the first character, to the end of the line."""
    line = problem.line if str(problem.file) == file else None
    if line is None or not 1 <= line <= max(1, len(lines)):
        return dict.fromkeys(("line", "column", "end_line", "end_column"))
    said = lines[line - 1] if lines else ""
    column = problem.column or len(said) - len(said.lstrip()) + 1
    end = max(column, len(said.rstrip()) + 1)
    return {"line": line, "column": column, "end_line": line, "end_column": end}


def _file_stem(name: str) -> str:
    kept = "".join(char if char.isalnum() or char in "-_." else "-" for char in name.strip()).strip("-.")
    return kept[:100] or "recipe"
