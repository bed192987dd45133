"""make_plan: a recipe resolved against a model. Reads no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance import Importance
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.companions import with_companions
from quantrecipe.plan.digests import encoding_digest, plan_digest
from quantrecipe.plan.importance import check_importance, names, selected_importance
from quantrecipe.plan.layout import SplitLimits, lay_out
from quantrecipe.plan.metadata import PLAN_DIGEST, build_metadata
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.prune import prune
from quantrecipe.plan.resolve import Decision, resolve
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

__all__ = ["make_plan"]


def make_plan(
    recipe: Recipe,
    model: Model,
    *,
    registry: Registry | None = None,
    importance: Importance | None = None,
    strict: bool = False,
    allow_requantize: bool = False,
    provenance: bool = True,
    split: SplitLimits | None = None,
) -> Plan:
    """Resolve a recipe against a model, from headers alone.

    `importance` is the matrix, of which the recipe may let only a part count; reading it is the caller's part. `strict`
    refuses every fallback, `allow_requantize` lets quantized sources be quantized again, `provenance`
    records recipe and hashes in the output, `split` says when to begin another file.

    Raises PlanError with every problem found, ImportanceError where a matrix is needed and missing, or
    doesn't fit the model.
    """
    registry = registry or load_registry()
    _require_names(model)
    _require_types(recipe)
    selected = selected_importance(recipe, importance)
    pruned = prune(model, selected, recipe.prune)
    model, importance = pruned.model, pruned.importance
    if split is not None and split.shards is not None:
        kept = {pruned.names[name]: shard for name, shard in split.shards.items() if name in pruned.names}
        split = replace(split, shards=kept)
    covered = {t.name for t in model.tensors if importance is not None and importance.covers(t)}
    decisions = resolve(
        recipe,
        model,
        has_importance=importance is not None,
        covered=lambda tensor: tensor.name in covered,
        order=_order(model, split),
    )
    choices = _choose(decisions, recipe, model, registry, strict=strict, allow_requantize=allow_requantize)
    sizes = [
        choice.format.spec.tensor_bytes(d.tensor.shape) for d, choice in zip(decisions, choices, strict=True)
    ]
    assignments = [
        Assignment(
            tensor=decision.tensor,
            format=choice.format,
            nbytes=nbytes,
            offset=0,
            because=choice.because,
            why=decision.why,
            wanted=choice.wanted,
            misfit=choice.misfit,
            copied=choice.copied,
            importance=weighted,
            encoding=encoding_digest(
                choice.format,
                copied=choice.copied,
                importance=importance.entries[decision.tensor.name].digest if weighted and importance else "",
            ),
        )
        for decision, choice, nbytes in zip(decisions, choices, sizes, strict=True)
        for weighted in [_uses_importance(choice, decision.tensor.name in covered)]
    ]
    assignments = with_companions(assignments, model, registry.format("F32"))
    report, warnings = check_importance(recipe, model, assignments, importance)
    metadata = build_metadata(
        recipe, model, assignments, selected, layers=pruned.layers, provenance=provenance
    )
    digest = plan_digest(
        recipe.digest,
        selected.digest if selected is not None else None,
        ((a.tensor.name, a.tensor.shape, a.tensor.dtype, a.type, a.nbytes, a.encoding) for a in assignments),
    )
    if provenance:
        metadata[PLAN_DIGEST] = GGUFValue.of(ValueType.STRING, digest)
    return Plan(
        recipe=recipe.name,
        recipe_file=recipe.file,
        recipe_digest=recipe.digest,
        model=model,
        files=lay_out(assignments, metadata, model.alignment, split),
        importance=importance,
        coverage=report,
        alignment=model.alignment,
        warnings=tuple(_fallback_warnings(assignments) + warnings),
        digest=digest,
    )


def _order(model: Model, split: SplitLimits | None) -> Sequence[TensorInfo] | None:
    """Who keeps the model's shards keeps its order too, as llama-quantize does; else it is layer, name."""
    if split is None or split.shards is None:
        return None
    shards = split.shards
    return sorted(model.tensors, key=lambda tensor: shards[tensor.name])


def _require_names(model: Model) -> None:
    if not model.tensors:
        raise PlanError(f"{model.path} has no tensors")
    if not model.arch:
        raise PlanError(
            f"{model.path} doesn't say which architecture it is",
            "name it with --arch, or put the model's config.json beside it",
        )


def _require_types(recipe: Recipe) -> None:
    """`choose` leaves the type to the optimiser."""
    problems = [
        Problem(
            file=rule.origin.file,
            line=rule.origin.line,
            what="this rule leaves the choice among several types, and plans can't choose yet",
            remedy="give it one `type`",
        )
        for rule in recipe.rules
        if rule.choose
    ]
    if problems:
        raise PlanError(problems)


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


def _uses_importance(choice: Choice, covered: bool) -> bool:
    return covered and not choice.copied and choice.format.spec.importance != "ignored"
