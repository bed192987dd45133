"""make_plan: a recipe resolved against a model. Reads no weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import xxhash

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write import header_size
from quantrecipe.importance import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.importance import check_importance, names
from quantrecipe.plan.layout import offsets
from quantrecipe.plan.metadata import PLAN_DIGEST, build_metadata
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.resolve import Decision, resolve
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

__all__ = ["entries", "make_plan"]


def make_plan(
    recipe: Recipe,
    model: Model,
    *,
    registry: Registry | None = None,
    importance: Importance | None = None,
    strict: bool = False,
    allow_requantize: bool = False,
    provenance: bool = True,
) -> Plan:
    """Resolve a recipe against a model, from headers alone.

    `importance` is used as given; reading the matrix that the recipe names is the caller's part. `strict`
    refuses every fallback, `allow_requantize` lets quantized sources be quantized again, `provenance`
    records recipe and hashes in the output.

    Raises PlanError with every problem found, ImportanceError where a matrix is needed and missing, or
    doesn't fit the model.
    """
    registry = registry or load_registry()
    _require_names(model)
    covered = {t.name for t in model.tensors if importance is not None and importance.covers(t)}
    decisions = resolve(
        recipe, model, has_importance=importance is not None, covered=lambda tensor: tensor.name in covered
    )
    choices = _choose(decisions, recipe, model, registry, strict=strict, allow_requantize=allow_requantize)
    sizes = [
        choice.format.spec.tensor_bytes(d.tensor.shape) for d, choice in zip(decisions, choices, strict=True)
    ]
    starts, data = offsets(sizes, model.alignment)
    assignments = [
        Assignment(
            tensor=decision.tensor,
            format=choice.format,
            nbytes=nbytes,
            offset=start,
            because=choice.because,
            why=decision.why,
            wanted=choice.wanted,
            misfit=choice.misfit,
            copied=choice.copied,
            importance=(
                not choice.copied
                and choice.format.spec.importance != "ignored"
                and decision.tensor.name in covered
            ),
        )
        for decision, choice, nbytes, start in zip(decisions, choices, sizes, starts, strict=True)
    ]
    report, warnings = check_importance(recipe, model, assignments, importance)
    metadata = build_metadata(recipe, model, assignments, importance, provenance=provenance)
    header = header_size(metadata, entries(assignments, header=0), model.alignment)
    digest = _digest(recipe, assignments, importance)
    if provenance:
        metadata[PLAN_DIGEST] = GGUFValue.of(ValueType.STRING, digest)
    return Plan(
        recipe=recipe.name,
        recipe_file=recipe.file,
        model=model,
        assignments=tuple(replace(a, offset=header + a.offset) for a in assignments),
        metadata=metadata,
        importance=importance,
        coverage=report,
        header=header,
        alignment=model.alignment,
        nbytes=header + data,
        warnings=tuple(_fallback_warnings(assignments) + warnings),
        digest=digest,
    )


def entries(assignments: Sequence[Assignment], *, header: int) -> list[TensorEntry]:
    """The tensors as the header lists them; `header` is what offsets count from."""
    return [
        TensorEntry(
            name=a.tensor.name,
            shape=a.tensor.shape,
            ggml_type=a.format.spec.ggml_type,
            offset=a.offset - header,
        )
        for a in assignments
    ]


def _require_names(model: Model) -> None:
    if not model.tensors:
        raise PlanError(f"{model.path} has no tensors")
    if not model.arch:
        raise PlanError(
            f"{model.path} doesn't say which architecture it is",
            "name it with --arch, or put the model's config.json beside it",
        )


def _choose(
    decisions: Sequence[Decision],
    recipe: Recipe,
    model: Model,
    registry: Registry,
    *,
    strict: bool,
    allow_requantize: bool,
) -> list[Choice]:
    """A choice for each decision; all problems at once, one for each rule that has any."""
    choices: list[Choice] = []
    problems: dict[tuple[object, object], Problem] = {}
    for decision in decisions:
        try:
            choices.append(
                choose_format(
                    decision, recipe, model, registry, strict=strict, allow_requantize=allow_requantize
                )
            )
        except PlanError as error:
            for problem in error.problems:
                problems.setdefault((problem.file, problem.line), problem)
    if problems:
        raise PlanError(problems.values())
    return choices


def _fallback_warnings(assignments: Sequence[Assignment]) -> list[str]:
    """One line for all tensors that fell back from one type to another for one reason."""
    fallen = sorted(
        (a for a in assignments if a.wanted is not None),
        key=lambda a: (a.because, a.wanted, a.type, a.misfit),
    )
    return [
        f"{names(group)}: {wanted} → {type_}, since {misfit} ({because})"
        for (because, wanted, type_, misfit), members in groupby(
            fallen, key=lambda a: (a.because, a.wanted, a.type, a.misfit)
        )
        if (group := list(members))
    ]


def _digest(recipe: Recipe, assignments: Sequence[Assignment], importance: Importance | None) -> str:
    content = {
        "recipe": recipe.digest,
        "importance": importance.digest if importance is not None else None,
        "tensors": [
            [
                a.tensor.name,
                a.tensor.shape,
                a.tensor.dtype,
                a.type,
                a.format.spec.version,
                dict(a.format.options),
                a.nbytes,
                a.importance,
            ]
            for a in assignments
        ],
    }
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
