"""What `eval` evaluates: GGUF files that there are, and recipes, from which files are made for as long as it runs.

    model.Q4_K_M.gguf               a file
    llama.cpp/Q3_K_M, mine.yaml     a recipe, with the importance matrices of --imatrix, or else its own
    llama.cpp/Q3_K_M@code.gguf      a recipe with this importance matrix
    llama.cpp/Q3_K_M@none           a recipe without any

Recipes are applied to the unquantized model, all in one pass. Where that is no GGUF, one is made in the same pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.named_recipes import expand_names, load_recipes
from quantrecipe.cli.output_files import check_folder, default_name
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.tables import Paragraph
from quantrecipe.cli.units import bytes_text
from quantrecipe.output.work_folder import work_folder

if TYPE_CHECKING:
    from quantrecipe.model.model import Model
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["NO_MATRIX", "Named", "Subject", "made", "named", "plan_subjects", "unquantized_plan"]

NO_MATRIX = "none"
"""What stands for no importance matrix."""

_RECIPE_FILES = (".yaml", ".yml")
_MATRIX_FILES = (".gguf", ".dat", ".imatrix")
_UNQUANTIZED = {"BF16": "BF16", "F16": "F16", "F32": "F32"}
"""By the type that most of a model's weights have: the recipe that keeps them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """What an argument names: a file, or a recipe with a choice of importance.

    recipe: "" for a file
    matrix: a file, or `NO_MATRIX`; "" where the argument leaves it open
    """

    text: str
    recipe: str = ""
    matrix: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is evaluated.

    name:    what it is called in tables: a path, or a recipe as it was typed, with its matrix
    path:    of the file, which needn't have been made yet
    recipe:  its name; None for a file
    imatrix: the importance matrix that its types use; None for none
    plan:    of the file that is made; None for one that there is
    kept:    False for a file that is removed at the end
    """

    name: str
    path: Path
    recipe: str | None = None
    imatrix: Path | None = None
    plan: Plan | None = None
    kept: bool = True


def named(text: str) -> Named:
    """What an argument names. A path that exists, or ends with .gguf, is a file, unless it is a recipe's."""
    path = Path(text)
    is_recipe = text.lower().endswith(_RECIPE_FILES)
    if path.exists() and not is_recipe:
        return Named(text=text)
    recipe, at, matrix = text.rpartition("@")
    # Names of recipes may have an @ themselves: llama.cpp@b11312/Q4_K_M.
    is_matrix = matrix == NO_MATRIX or matrix.lower().endswith(_MATRIX_FILES) or Path(matrix).is_file()
    if at and recipe and is_matrix:
        return Named(text=text, recipe=recipe, matrix=matrix)
    if text.lower().endswith(".gguf"):
        return Named(text=text)
    return Named(text=text, recipe=text)


def plan_subjects(
    ctx: Context,
    wanted: Sequence[Named],
    matrices: Sequence[str],
    model: Model | None,
    registry: Registry,
    *,
    allow_requantize: bool = False,
    another_model: bool = False,
    statistics: Path | None = None,
) -> list[Subject]:
    """What the arguments stand for, in their order, each once; recipes with a plan for the model.

    matrices: for recipes whose argument names none: each makes a file; none of them: the recipe's own
    statistics: a folder of Gram matrices, for recipes whose encoder needs them
    QuantrecipeError where a recipe can't be planned, or a matrix states another model (unless `another_model`).
    """
    found: dict[str, Subject] = {}
    inputs = PlanInputs(
        registry=registry,
        allow_requantize=allow_requantize,
        another_model=another_model,
        statistics=statistics,
    )
    called = _short([*matrices, *(it.matrix for it in wanted)])
    for it in wanted:
        if model is None or not it.recipe:
            found[it.text] = Subject(name=it.text, path=Path(it.text))
            continue
        for name in expand_names(ctx, [it.recipe], registry):
            (recipe,) = load_recipes(ctx, [name], registry)
            plans = {
                matrix: _plan(recipe, matrix, model, inputs)
                for matrix in ([it.matrix] if it.matrix else matrices or [""])
            }
            if len(plans) > 1 and not any(map(_uses_importance, plans.values())):
                plans = dict(list(plans.items())[:1])  # the same of each matrix
            for matrix, plan in plans.items():
                label = f"{name}@{called[matrix]}" if it.matrix or len(plans) > 1 else name
                own = None if matrix else recipe.importance.file
                found[label] = _subject(label, name, matrix, plan, own)
                if it.matrix not in ("", NO_MATRIX) and not _uses_importance(plan):
                    print_warning(ctx.err, f"{label}: no type of this recipe uses importance")
    return _with_own_paths(found.values())


def unquantized_plan(ctx: Context, model: Model, registry: Registry) -> Plan:
    """The plan of a GGUF that keeps a model's weights as they are: in the type that most of them have, else BF16."""
    weights = Counter[str]()
    for tensor in model.tensors:
        weights[tensor.dtype] += tensor.size
    name = _UNQUANTIZED.get(weights.most_common(1)[0][0], "BF16")
    (recipe,) = load_recipes(ctx, [f"llama.cpp/{name}"], registry)
    return _plan(recipe, NO_MATRIX, model, PlanInputs(registry=registry))


@contextmanager
def made(
    ctx: Context,
    plans: Sequence[tuple[Plan, str]],
    registry: Registry,
    *,
    folder: Path,
    keep: bool,
    force: bool,
    threads: int | None,
) -> Iterator[list[Path]]:
    """Make files of plans, under these names, in one pass over the model: their paths, while the context lasts.

    keep: in the folder itself, for good; else they are removed with a folder of their own. OutputError where nothing
    can be written there.
    """
    if not plans:
        yield []
        return
    from quantrecipe.cli.apply_progress import apply_progress
    from quantrecipe.cli.planned.plan_table import render_shared_warnings, render_warnings
    from quantrecipe.output.apply import apply_plans

    check_folder(folder, option="--work-dir")
    only = [plan for plan, _ in plans]
    if any(plan.warnings for plan in only):
        ctx.err.print(render_warnings(only[0]) if len(only) == 1 else render_shared_warnings(only))
    count, nbytes = len(plans), bytes_text(sum(plan.nbytes for plan in only))
    stays = "stay there" if keep else "are removed afterwards (--keep keeps them)"
    if count == 1:
        stays = "stays there" if keep else "is removed afterwards (--keep keeps it)"
    where = "the current folder" if folder == Path() else printable(str(folder))
    files = f"{count} file{'s' if count > 1 else ''}, {nbytes}"
    ctx.err.print(
        Paragraph(Text(f"making {files}, in {where}; {'it' if count == 1 else 'they'} {stays}", "dim"))
    )
    with _place(folder, keep=keep) as place:
        paths = [place / name for _, name in plans]
        with apply_progress(ctx.err) as progress:
            results = apply_plans(
                list(zip(only, paths, strict=True)),
                registry=registry,
                threads=threads,
                force=force,
                progress=progress,
            )
        yield [result.path for result in results]


@contextmanager
def _place(folder: Path, *, keep: bool) -> Iterator[Path]:
    if keep:
        yield folder
        return
    with work_folder(folder, "eval") as place:
        yield place


def _plan(recipe: Recipe, matrix: str, model: Model, inputs: PlanInputs) -> Plan:
    """matrix: a file, `NO_MATRIX`, or "" for the recipe's own."""
    if matrix == NO_MATRIX:
        recipe = replace(recipe, importance=replace(recipe.importance, file=None))
    elif matrix:
        inputs = replace(inputs, imatrix=Path(matrix))
    return inputs.plan(recipe, model)


def _short(matrices: Iterable[str]) -> dict[str, str]:
    """By matrix what it is called: the name of its file, where no other one has it."""
    names = Counter(Path(matrix).name for matrix in {*matrices})
    return {it: Path(it).name if names[Path(it).name] == 1 else it for it in {*matrices}}


def _uses_importance(plan: Plan) -> bool:
    return any(assignment.importance for assignment in plan.assignments)


def _subject(label: str, recipe: str, matrix: str, plan: Plan, own: Path | None) -> Subject:
    """own: the recipe's own matrix, where it counts."""
    given = own if matrix in ("", NO_MATRIX) else Path(matrix)
    called = plan.recipe if label == recipe else f"{plan.recipe}-{Path(matrix).stem}"
    return Subject(
        name=label,
        path=Path(default_name(plan.model.path, called)),
        recipe=recipe,
        imatrix=given if _uses_importance(plan) else None,
        plan=plan,
    )


def _with_own_paths(subjects: Iterable[Subject]) -> list[Subject]:
    """The subjects, none of them made where another is: a/imatrix.gguf and b/imatrix.gguf."""
    taken: set[Path] = set()
    result = []
    for it in subjects:
        path, number = it.path, 1
        while it.plan is not None and path in taken:
            number += 1
            path = it.path.with_stem(f"{it.path.stem}-{number}")
        taken.add(path)
        result.append(replace(it, path=path))
    return result
