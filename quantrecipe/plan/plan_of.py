"""plan_of: what a resolved recipe comes to, tensor by tensor and to the byte. Reads no weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.companions import absorbed, with_companions
from quantrecipe.plan.dialects import check_dialects, dialect_warnings
from quantrecipe.plan.digests import encoding_digest, plan_digest
from quantrecipe.plan.importance import check_importance, names
from quantrecipe.plan.label import untrue
from quantrecipe.plan.layout import lay_out
from quantrecipe.plan.metadata import PLAN_DIGEST, build_metadata
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.reach import reach
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.statistics import Made, encoder_warnings, made_by
from quantrecipe.plan.trace import Decision, doubts
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.tensor import MAX_DIMS

__all__ = ["each_decision", "fallback_warnings", "plan_of"]

T = TypeVar("T")


def plan_of(resolution: Resolution) -> Plan:
    """The plan that the decisions come to; none of them may leave the choice among several types.

    PlanError with every problem found, ImportanceError where a matrix is needed and missing, or doesn't fit the model.
    """
    recipe, model, selected = resolution.recipe, resolution.model, resolution.selected
    decisions = resolution.decisions
    choices = each_decision(decisions, lambda decision: choose_format(decision, resolution))
    pairs = list(zip(decisions, choices, strict=True))
    multiplied_in = absorbed(
        ((decision.tensor, choice.copied) for decision, choice in pairs), model, resolution.registry.formats
    )
    found = {decision.tensor.name: choice for decision, choice in pairs}
    left = [it for it in decisions if it.tensor.name not in multiplied_in]
    assignments = with_companions(
        each_decision(left, lambda it: _assignment(it, found[it.tensor.name], resolution)),
        model,
        resolution.registry.format("F32"),
    )
    split = resolution.settings.split
    if split is not None and (shards := split.shards) is not None:
        # Recorded lists are in the order of the files; a companion, which the source doesn't have, goes with its owner.
        assignments.sort(key=lambda a: shards[a.owner or a.tensor.name])
    check_dialects(assignments)
    report, warnings = check_importance(resolution, assignments)
    metadata = build_metadata(resolution, assignments)
    digest = plan_digest(
        recipe.digest,
        selected.digest if selected is not None else None,
        ((a.tensor.name, a.tensor.shape, a.tensor.dtype, a.type, a.nbytes, a.encoding) for a in assignments),
    )
    if resolution.settings.provenance:
        metadata[PLAN_DIGEST] = GGUFValue.of(ValueType.STRING, digest)
    return Plan(
        recipe=recipe.name,
        recipe_file=recipe.file,
        recipe_digest=recipe.digest,
        model=model,
        files=lay_out(assignments, metadata, model.alignment, split),
        importance=resolution.importance,
        coverage=report,
        alignment=model.alignment,
        warnings=(
            *map(str, doubts(recipe, model.tensors)),
            *_reach_warnings(resolution, decisions, choices),
            *_label_warnings(resolution, assignments, metadata.get("general.file_type")),
            *fallback_warnings(assignments),
            *dialect_warnings(assignments, recipe.target.engine if recipe.target is not None else None),
            *_dimension_warnings(assignments),
            *encoder_warnings(assignments, resolution.statistics),
            *warnings,
        ),
        digest=digest,
        statistics=resolution.statistics,
    )


def each_decision(decisions: Sequence[Decision], find: Callable[[Decision], T]) -> list[T]:
    """What `find` says of each decision. PlanError with the problems of all, one for each rule that has any."""
    found: list[T] = []
    problems: dict[tuple[object, object], Problem] = {}
    for decision in decisions:
        try:
            found.append(find(decision))
        except PlanError as error:
            for problem in error.problems:
                problems.setdefault((problem.file, problem.line), problem)
    if problems:
        raise PlanError(problems.values())
    return found


def _assignment(decision: Decision, choice: Choice, resolution: Resolution) -> Assignment:
    tensor, spec, matrix = decision.tensor, choice.format.spec, resolution.importance
    weighted = tensor.name in resolution.covered and not choice.copied and spec.importance != "ignored"
    # Of the matrix the bytes depend on this tensor's entry alone: another matrix may have the same one.
    entry = matrix.entry(tensor) if matrix is not None and weighted else None
    made = Made() if choice.copied else made_by(decision, choice.format, resolution)
    return Assignment(
        tensor=tensor,
        format=choice.format,
        nbytes=spec.tensor_bytes(tensor.shape),
        offset=0,  # known once all tensors are laid out
        because=choice.because,
        why=decision.why,
        wanted=choice.wanted,
        misfit=choice.misfit,
        copied=choice.copied,
        importance=weighted,
        encoding=encoding_digest(
            choice.format,
            copied=choice.copied,
            importance="" if entry is None else entry.digest,
            encoder=made.encoder,
            inputs=made.digest,
        ),
        encoder=made.encoder,
        inputs=made.inputs,
        made_of=made.digest,
        settled=made.settled,
        lacking=made.lacking,
    )


def _dimension_warnings(assignments: Sequence[Assignment]) -> list[str]:
    """What llama.cpp doesn't load; those who have such tensors use other programs."""
    found = [a for a in assignments if len(a.tensor.shape) > MAX_DIMS]
    if not found:
        return []
    most = max(len(a.tensor.shape) for a in found)
    return [
        f"{names(found)}: {most} dimensions, and llama.cpp loads at most {MAX_DIMS}; stable-diffusion.cpp loads 5, and "
        "programs that read GGUFs with gguf-py, such as ComfyUI-GGUF, any number"
    ]


def _reach_warnings(
    resolution: Resolution, decisions: Sequence[Decision], choices: Sequence[Choice]
) -> list[str]:
    """A line where much of the model stays as it is, though the recipe quantizes."""
    outcomes = ((d, choice.format.spec.name) for d, choice in zip(decisions, choices, strict=True))
    found = reach(resolution.recipe, outcomes)
    problem = None if found is None else found.problem()
    return [] if problem is None else ["; ".join(problem)]


def _label_warnings(
    resolution: Resolution, assignments: Sequence[Assignment], written: GGUFValue | None
) -> list[str]:
    """A line where the recipe's label isn't true of the types, and what became of it. `written`: the file's label."""
    label = resolution.recipe.file_type
    if label in (None, KEEP):
        return []
    types = [(a.tensor, a.type) for a in assignments]
    share = untrue(label, types, resolution.model, resolution.registry)
    if share is None:
        return []
    most = f"{100 * share.share:.0f} % of the weights in its layers are {share.type}"
    if resolution.recipe.file_type_fixed:
        return [f"the file says that it is mostly {label} (general.file_type), but {most}"]
    said = None if written is None else file_type_name(written.decode())
    return [
        f"{most}, so the file says that it is mostly {said or share.type}, not {label} as the recipe's parent does"
    ]


def fallback_warnings(assignments: Sequence[Assignment]) -> list[str]:
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
