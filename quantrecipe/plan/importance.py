"""What a plan's types ask of the importance matrix, and what the matrix has for them: known before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantrecipe.api import FormatSpec
from quantrecipe.errors import ImportanceError, Problem
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.resolution import Resolution
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.tensor import TensorInfo
from quantrecipe.wording import some_of

if TYPE_CHECKING:  # most plans have no matrix: what reads one is loaded with it
    from quantrecipe.importance.coverage import Coverage
    from quantrecipe.importance.matrix import Importance
    from quantrecipe.model.model import Model
    from quantrecipe.plan.statistics import Statistics

__all__ = [
    "check_importance",
    "may_lack_importance",
    "names",
    "require_matrix_of",
    "require_statistics_of",
]

_CALIBRATION_LEAVES_OUT = ("token_embd", "per_layer_token_embd", "output")
"""llama-imatrix records no embeddings, and the output matrix only under --process-output: to ask for them would refuse
nearly every matrix that there is."""


def require_matrix_of(model: Model, importance: Importance | None) -> None:
    """ImportanceError where the matrix states that it was made from another model than this one, which isn't pruned.

    A matrix that states nothing passes, and so does one whose statement is of a version that isn't known here. Reads
    the model's norms, a few MB at most, and only if there is something to compare them with.
    """
    if importance is None or not (why := _differs(importance.fingerprint, model)):
        return
    raise ImportanceError(
        f"is the importance matrix of another model than {model.path}: {why}",
        "use the matrix that was made from this model, or insist with --imatrix-of-another-model (a base model's "
        "matrix often serves its fine-tunes)",
        file=importance.path,
    )


def require_statistics_of(model: Model, statistics: Statistics | None) -> None:
    """ImportanceError where statistics state that they are of another model; as `require_matrix_of`."""
    if statistics is None or not (why := _differs(statistics.fingerprint, model)):
        return
    raise ImportanceError(
        f"has Gram matrices of another model than {model.path}: {why}",
        "compute them of this model: `quantrecipe imatrix compute --gram FOLDER`",
        file=statistics.folder,
    )


def _differs(fingerprint_: str, model: Model) -> str:
    """In what a model differs from that of which this is the fingerprint; "" where it doesn't, or nothing is stated."""
    if not fingerprint_:
        return ""
    from quantrecipe.model.fingerprint import Fingerprint, fingerprint

    stated = Fingerprint.parse(fingerprint_)
    if stated is None:
        return ""
    found = fingerprint(model)
    if stated.agrees(found):
        return ""
    if stated.structure == found.structure:
        why = "the shapes are the same, but not the norms, so one is a fine-tune of the other, or both are of a third"
    else:
        why = "layers or shapes differ"
    return f"{why} ({stated}, not {found})"


def may_lack_importance(spec: FormatSpec, tensor: TensorInfo, recipe: Recipe) -> bool:
    """True where the tensor may well be of this format without importance, as far as format and recipe go."""
    demanded = spec.name in recipe.importance.required_for and tensor.role not in _CALIBRATION_LEAVES_OUT
    return spec.importance not in ("required", "advised") and not demanded


def check_importance(
    resolution: Resolution, assignments: Sequence[Assignment]
) -> tuple[Coverage | None, list[str]]:
    """How the matrix covers the tensors whose types use it, and warnings for people.

    ImportanceError where the recipe or a type can't do without, or the matrix doesn't fit the model.
    """
    recipe, importance = resolution.recipe, resolution.importance
    if importance is None and recipe.importance.required:
        raise ImportanceError(
            f"recipe {recipe.name!r} needs an importance matrix",
            "give one with --imatrix FILE",
            file=recipe.file,
        )
    users = [a for a in assignments if not a.copied and a.format.spec.importance != "ignored"]
    report = None
    if importance is not None:
        from quantrecipe.importance.coverage import coverage

        report = coverage([a.tensor for a in users], importance, model=resolution.model.tensors)
        _refuse_misfits(report)
    bare = [a for a in users if not a.importance]
    _refuse_uncovered(recipe, importance, bare)
    if required := [a for a in bare if a.format.spec.importance == "required"]:
        raise ImportanceError(
            f"{_types(required)} can't be made without importance, and there is none for {names(required)}",
            "give a matrix that covers it with --imatrix FILE, or choose another type",
            file=recipe.file,
        )
    return report, _warnings(recipe, importance, report, bare)


def _refuse_uncovered(recipe: Recipe, importance: Importance | None, bare: Sequence[Assignment]) -> None:
    """What the recipe doesn't give any tensor without importance; embeddings pass, since calibration has none."""
    needy = [
        a
        for a in bare
        if a.type in recipe.importance.required_for and a.tensor.role not in _CALIBRATION_LEAVES_OUT
    ]
    if not needy:
        return
    became = f"{_types(needy)} for {names(needy)}"
    if importance is None:
        what = f"recipe {recipe.name!r} needs an importance matrix: it has {became}"
        remedy = "give one that was made from this model, with --imatrix FILE"
    else:
        what = f"recipe {recipe.name!r} has {became}, which {importance.label} doesn't cover"
        remedy = (
            "make a matrix that covers all layers, or give these tensors a rule with a type of 4 bits or more"
        )
    raise ImportanceError(what, remedy, file=recipe.file)


def names(assignments: Sequence[Assignment]) -> str:
    """The names of a few tensors, and how many more there are."""
    return some_of([a.tensor.name for a in assignments], 2)


def _refuse_misfits(report: Coverage) -> None:
    problems = [
        Problem(
            what=f"{item.tensor.name} has {item.fit.found:,} values of importance (expected: {item.fit.expected:,})",
            remedy="use the importance matrix that was made from this model",
            file=report.importance.path,
        )
        for item in report.misfit
        if item.tensor.layer is not None
        or item.tensor.role == "output"  # llama-quantize lets embeddings pass
    ]
    if problems:
        raise ImportanceError(problems)


def _warnings(
    recipe: Recipe, importance: Importance | None, report: Coverage | None, bare: Sequence[Assignment]
) -> list[str]:
    policy = recipe.importance.uncovered
    if importance is not None and bare and policy == "error":
        raise ImportanceError(
            f"{importance.path} doesn't cover {names(bare)}",
            "the recipe says `uncovered: error`: make a matrix that covers it, or say `warn`",
            file=recipe.file,
        )
    if policy == "plain":
        return []
    warnings = []
    advised = [a for a in bare if a.format.spec.importance == "advised"]
    if advised:
        warnings.append(
            f"{_types(advised)} loses much without importance, and there is none for {names(advised)}"
        )
    if importance is not None:
        uncovered = [a for a in bare if a.format.spec.importance == "optional"]
        if uncovered:
            warnings.append(f"quantized without importance, not in {importance.label}: {names(uncovered)}")
    for item in report.standing_in if report else ():
        if item.fit.others:
            warnings.append(
                f"{item.tensor.name} takes the importance of {item.fit.entry}, which sees the same inputs; so does "
                f"{', '.join(item.fit.others)}, and has other values: were they measured on the same text?"
            )
    for item in report.partly if report else ():
        warnings.append(
            f"{item.tensor.name}: calibration never reached "
            f"{len(item.fit.unseen)} of its {item.tensor.experts} experts"
        )
    return warnings


def _types(assignments: Sequence[Assignment]) -> str:
    return ", ".join(sorted({a.type for a in assignments}))
