"""make_plan: a recipe resolved against a model. Reads no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance import Importance
from quantrecipe.model.model import Model
from quantrecipe.model.not_a_model import require_model
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.candidates import Candidate, candidates
from quantrecipe.plan.choose import hold, spend
from quantrecipe.plan.companions import with_companions
from quantrecipe.plan.dialects import check_dialects, dialect_warnings
from quantrecipe.plan.digests import encoding_digest, plan_digest
from quantrecipe.plan.importance import check_importance, names, selected_importance
from quantrecipe.plan.label import untrue
from quantrecipe.plan.layout import SplitLimits, lay_out
from quantrecipe.plan.losses import Losses
from quantrecipe.plan.metadata import PLAN_DIGEST, build_metadata
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.prune import prune
from quantrecipe.plan.reach import reach
from quantrecipe.plan.resolve import Decision, doubts, resolve
from quantrecipe.recipe.recipe import KEEP, Recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.tensor import MAX_DIMS, TensorInfo

__all__ = ["fallback_warnings", "make_plan"]

T = TypeVar("T")


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
    sensitivity: Sensitivity | None = None,
) -> Plan:
    """Resolve a recipe against a model, from headers alone.

    `importance` is the matrix, of which the recipe may let only a part count; reading it is the caller's part. `strict`
    refuses every fallback, `allow_requantize` lets quantized sources be quantized again, `provenance`
    records recipe and hashes in the output, `split` says when to begin another file. `sensitivity` is what `choose`
    rules go by: what each type costs each tensor, as measured; None: the prior.

    Raises ModelError where the file holds something else than a model (an adapter), PlanError with every problem
    found, ImportanceError where a matrix is needed and missing, or doesn't fit the model.
    """
    registry = registry or load_registry()
    require_model(model)
    _require_arch(model)
    selected = selected_importance(recipe, importance)
    pruned = prune(model, selected, recipe)
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
    making = _Making(
        recipe=recipe,
        model=model,
        registry=registry,
        importance=importance,
        selected=selected,
        of_layers=pruned.metadata,
        covered=covered,
        strict=strict,
        allow_requantize=allow_requantize,
        provenance=provenance,
        split=split,
        doubts=tuple(map(str, doubts(recipe, model.tensors))),
    )
    if not any(d.rule is not None and d.rule.choose for d in decisions):
        return hold(making.plan(decisions), recipe)
    names_before = {new: old for old, new in pruned.names.items()}
    losses = Losses(model, registry, sensitivity, names_before)
    return spend(decisions, making.candidates(decisions, losses), recipe, losses.source, making.plan)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Making:
    """What a plan is made of, besides the decisions; `choose` makes several of one recipe.

    importance: of the tensors that are left, under their new names
    selected:   all of it that the recipe lets count
    of_layers:  what the output's metadata says of its layers, where some were pruned
    doubts:     patterns that name nothing, and what they may have meant
    """

    recipe: Recipe
    model: Model
    registry: Registry
    importance: Importance | None
    selected: Importance | None
    of_layers: Mapping[str, GGUFValue]
    covered: Set[str]
    strict: bool
    allow_requantize: bool
    provenance: bool
    split: SplitLimits | None
    doubts: tuple[str, ...] = ()

    def plan(self, decisions: Sequence[Decision]) -> Plan:
        """The plan that these decisions come to; all have a type."""
        recipe, model, selected = self.recipe, self.model, self.selected
        choices = _each(decisions, self._choice)
        assignments = [
            self._assignment(decision, choice) for decision, choice in zip(decisions, choices, strict=True)
        ]
        assignments = with_companions(assignments, model, self.registry.format("F32"))
        check_dialects(assignments)
        engine = recipe.target.engine if recipe.target is not None else None
        report, warnings = check_importance(recipe, model, assignments, self.importance)
        metadata = build_metadata(
            recipe,
            model,
            assignments,
            selected,
            registry=self.registry,
            of_layers=self.of_layers,
            provenance=self.provenance,
        )
        digest = plan_digest(
            recipe.digest,
            selected.digest if selected is not None else None,
            (
                (a.tensor.name, a.tensor.shape, a.tensor.dtype, a.type, a.nbytes, a.encoding)
                for a in assignments
            ),
        )
        if self.provenance:
            metadata[PLAN_DIGEST] = GGUFValue.of(ValueType.STRING, digest)
        return Plan(
            recipe=recipe.name,
            recipe_file=recipe.file,
            recipe_digest=recipe.digest,
            model=model,
            files=lay_out(assignments, metadata, model.alignment, self.split),
            importance=self.importance,
            coverage=report,
            alignment=model.alignment,
            warnings=(
                *self.doubts,
                *_reach_warnings(recipe, decisions, choices),
                *_label_warnings(recipe, model, assignments, metadata, self.registry),
                *fallback_warnings(assignments),
                *dialect_warnings(assignments, engine),
                *_dimension_warnings(assignments),
                *warnings,
            ),
            digest=digest,
        )

    def candidates(self, decisions: Sequence[Decision], losses: Losses) -> dict[str, list[Candidate]]:
        """By tensor name, what is open to those whose rule leaves the choice."""
        open_ones = [d for d in decisions if d.rule is not None and d.rule.choose]
        found = _each(
            open_ones,
            lambda decision: candidates(
                decision,
                self.recipe,
                self.model,
                self.registry,
                losses,
                covered=decision.tensor.name in self.covered,
                strict=self.strict,
                allow_requantize=self.allow_requantize,
            ),
        )
        return {d.tensor.name: its for d, its in zip(open_ones, found, strict=True)}

    def _choice(self, decision: Decision) -> Choice:
        return choose_format(
            decision,
            self.recipe,
            self.model,
            self.registry,
            strict=self.strict,
            allow_requantize=self.allow_requantize,
        )

    def _assignment(self, decision: Decision, choice: Choice) -> Assignment:
        tensor, spec = decision.tensor, choice.format.spec
        weighted = tensor.name in self.covered and not choice.copied and spec.importance != "ignored"
        entry = self.importance.entry(tensor) if self.importance is not None else None
        return Assignment(
            tensor=tensor,
            format=choice.format,
            nbytes=spec.tensor_bytes(tensor.shape),
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
                importance=entry.digest if weighted and entry is not None else "",
            ),
        )


def _order(model: Model, split: SplitLimits | None) -> Sequence[TensorInfo] | None:
    """Who keeps the model's shards keeps its order too, as llama-quantize does; else it is layer, name."""
    if split is None or split.shards is None:
        return None
    shards = split.shards
    return sorted(model.tensors, key=lambda tensor: shards[tensor.name])


def _require_arch(model: Model) -> None:
    if not model.arch:
        raise PlanError(
            f"{model.path} doesn't say which architecture it is",
            "name it with --arch, or put the model's config.json beside it",
        )


def _each(decisions: Sequence[Decision], find: Callable[[Decision], T]) -> list[T]:
    """What `find` says of each decision; all problems at once, one for each rule that has any."""
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


def _reach_warnings(recipe: Recipe, decisions: Sequence[Decision], choices: Sequence[Choice]) -> list[str]:
    """A line where much of the model stays as it is, though the recipe quantizes."""
    outcomes = ((d, choice.format.spec.name) for d, choice in zip(decisions, choices, strict=True))
    found = reach(recipe, outcomes)
    problem = None if found is None else found.problem()
    return [] if problem is None else ["; ".join(problem)]


def _label_warnings(
    recipe: Recipe,
    model: Model,
    assignments: Sequence[Assignment],
    metadata: Mapping[str, GGUFValue],
    registry: Registry,
) -> list[str]:
    """A line where the recipe's label isn't true of the types, and what became of it."""
    label = recipe.file_type
    if label in (None, KEEP):
        return []
    share = untrue(label, [(a.tensor, a.type) for a in assignments], model, registry)
    if share is None:
        return []
    most = f"{100 * share.share:.0f} % of the weights in its layers are {share.type}"
    if recipe.file_type_fixed:
        return [f"the file says that it is mostly {label} (general.file_type), but {most}"]
    value = metadata.get("general.file_type")
    said = None if value is None else file_type_name(value.decode())
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
