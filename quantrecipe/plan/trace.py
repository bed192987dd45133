"""Which rule decides each tensor: the first one that matches, then the default, then the source.

The scope of patterns: a wildcard is about the quantizable matrices alone; a pattern whose role has no wildcard
names its tensors outright and reaches any tensor. What no rule decides and the default doesn't cover stays as
it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from quantrecipe.errors import PlanError, Problem, RecipeError
from quantrecipe.model.model import Model
from quantrecipe.plan.condition_facts import model_facts, tensor_facts
from quantrecipe.recipe.recipe import KEEP, KeepEntry, Recipe, Rule
from quantrecipe.recipe.terms.meant_patterns import is_llama_cpp_s, meant
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.tensor import MAX_DIMS, TensorInfo, head_name, tensor_order

__all__ = [
    "NOT_A_MATRIX",
    "Covered",
    "Decision",
    "Match",
    "Trace",
    "covers_all",
    "covers_none",
    "doubts",
    "is_matrix",
    "shadowed",
    "trace",
]

_MOST_EFFORT = 50_000
"""Sum of the costs of patterns (`Pattern.cost`) up to which each is compared with the names that it may have meant: a
recipe that comes to more wasn't typed by a person, and takes long enough as it is.
"""
_MOST_HINTS = 20
"""Rules that get such a hint; who has made more mistakes than that has made one mistake many times."""

NOT_A_MATRIX = "not a matrix"
"""Why a tensor stays as it is that wildcards and the default aren't about: see `is_matrix`."""

Covered: TypeAlias = Callable[[TensorInfo], bool]
"""Which tensors an importance matrix covers. Where there is no matrix, None stands in its place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the recipe says of a tensor, before the format has been asked whether it fits.

    `because` and `why` name what decided, and its reason; `rule` is None where no rule did.
    """

    tensor: TensorInfo
    type: str
    because: str
    why: str
    rule: Rule | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The tensors that one rule names, and those of them that its layers and `when` leave."""

    named: frozenset[str]
    in_layers: frozenset[str]
    matched: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """How the rules of a recipe meet the tensors of a model.

    tensors: in the order in which they are ranked and written
    kept:    by name, the entry of the kept list that names the tensor
    matches: every rule, in order, with what it is about
    decided: by name, the first rule that matches; tensors that none does aren't there
    """

    recipe: Recipe
    tensors: tuple[TensorInfo, ...]
    kept: Mapping[str, KeepEntry | None]
    matches: tuple[tuple[Rule, Match], ...]
    decided: Mapping[str, Rule]
    n_layers: int

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Rules of the recipe's own file that can't do anything on this model."""
        found: list[Problem] = []
        for rule, match in self.matches:
            problem = _idle(rule, match, self, hint=len(found) < _MOST_HINTS) if rule.own else None
            found += () if problem is None else (problem,)
        return tuple(found)

    @property
    def decisions(self) -> list[Decision]:
        """What the recipe says of each tensor. PlanError, with every problem, where a rule can't do anything."""
        if problems := self.problems:
            raise PlanError(problems)
        return [self.decision(tensor) for tensor in self.tensors]

    def decision(self, tensor: TensorInfo) -> Decision:
        """What the recipe says of one tensor, whether the recipe as a whole makes sense here or not."""
        recipe, rule, kept = self.recipe, self.decided.get(tensor.name), self.kept[tensor.name]
        why = ""
        if 0 in tensor.shape:  # there is nothing to quantize, whatever a rule says
            type_, because, rule = KEEP, "no elements", None
        elif rule is not None:
            type_, because, why = rule.type, str(rule.origin), rule.why
        elif kept is not None:
            type_, because, why = KEEP, f"{kept.origin} (kept)", kept.why
        elif not is_matrix(tensor):
            type_, because = KEEP, NOT_A_MATRIX
        elif recipe.default is not None:
            type_, because = recipe.default, f"{recipe.default_origin or recipe.file} (default)"
        else:
            type_, because = KEEP, "no rule"
        return Decision(tensor=tensor, type=type_, because=because, why=why, rule=rule)


def covers_all(tensor: TensorInfo) -> bool:
    """`Covered` of a matrix that covers every tensor: for what would be, if there were one."""
    return True


def covers_none(tensor: TensorInfo) -> bool:
    """`Covered` where there was a matrix, and nobody knows any more which tensors it covered."""
    return False


def doubts(recipe: Recipe, tensors: Sequence[TensorInfo]) -> tuple[Problem, ...]:
    """Patterns of the recipe's own file that name none of the tensors, and none of any model that llama.cpp runs.

    Beside patterns that do, or in an optional rule, they are no error: a model may have names of its own.
    """
    patterns = [(rule, pattern) for rule in recipe.rules if rule.own for pattern in rule.tensors]
    if sum(pattern.cost for _, pattern in patterns) > _MOST_EFFORT:
        return ()
    head = head_name(tensors)
    roles = {tensor.role for tensor in tensors}
    found = (
        Problem(
            file=rule.origin.file,
            line=rule.origin.line,
            code="QR202",
            what=f"no tensor of this model is named by {str(pattern)!r}",
            remedy=hint,
        )
        for rule, pattern in patterns
        if not any(pattern.matches(tensor, head) for tensor in tensors)
        and not is_llama_cpp_s(pattern)
        and (hint := meant(str(pattern), roles))
    )
    return tuple(islice(found, _MOST_HINTS))


def trace(
    recipe: Recipe,
    model: Model,
    *,
    covered: Covered | None = None,
    order: Sequence[TensorInfo] | None = None,
) -> Trace:
    """What each rule is about on a model, and which of them decides each tensor; problems are only noted.

    covered: which tensors the importance matrix covers; None where there is no matrix
    order:   in which tensors are ranked and written; None: first those outside the layers, then layer by layer, by name
    """
    tensors = tuple(sorted(model.tensors, key=tensor_order) if order is None else order)
    scope = _Scope(recipe, model, covered)
    kept = {t.name: scope.kept_by(t) for t in tensors}
    # What wildcards are about; a pattern that names tensors outright reaches the others, too.
    quantizable = {t.name for t in tensors if is_matrix(t) and kept[t.name] is None}
    matches = tuple((rule, scope.match(rule, tensors, quantizable)) for rule in recipe.rules)
    decided: dict[str, Rule] = {}
    for rule, match in matches:
        for name in match.matched:
            decided.setdefault(name, rule)  # the first rule that matches wins
    return Trace(
        recipe=recipe,
        tensors=tensors,
        kept=kept,
        matches=matches,
        decided=decided,
        n_layers=model.n_layers,
    )


def is_matrix(tensor: TensorInfo) -> bool:
    """True for matrices, stacked or not, whose names end in `weight`: what wildcards and the default are about.

    llama.cpp: tensor_allows_quantization, which doesn't ask for a dot before it (`attn.in_proj_weight`).
    """
    shape = tensor.shape
    if len(shape) > MAX_DIMS or 0 in shape:  # for programs that read more than llama.cpp; nothing to quantize
        return False
    while shape and shape[0] == 1:  # ggml counts dimensions without the outer ones of length 1
        shape = shape[1:]
    return tensor.name.endswith("weight") and 2 <= len(shape) <= 3


def shadowed(tensors: Iterable[TensorInfo]) -> frozenset[str]:
    """Names of tensors that another one has, too, but for its `.weight`: only a full name means these."""
    names = {tensor.name for tensor in tensors}
    return frozenset(name for name in names if not name.endswith(".weight") and f"{name}.weight" in names)


class _Scope:
    """The facts of one model, and the questions that a recipe asks about its tensors."""

    def __init__(self, recipe: Recipe, model: Model, covered: Covered | None) -> None:
        # The kept list is long, and few of its entries, and of their patterns, are about any one tensor.
        self._keep_by_role = {
            role: [(entry, some) for entry in recipe.keep if (some := _that_may_match(entry.tensors, role))]
            for role in {tensor.role for tensor in model.tensors}
        }
        self._head = model.head
        self._n_layers = model.n_layers
        self._facts = model_facts(model, has_importance=covered is not None)
        self._covered = covered
        self._model = model
        self._shadowed = shadowed(model.tensors)
        self._named: dict[tuple[Pattern, ...], list[TensorInfo]] = {}

    def kept_by(self, tensor: TensorInfo) -> KeepEntry | None:
        """The entry of the kept list that names the tensor."""
        for entry, patterns in self._keep_by_role[tensor.role]:
            if self._keeps(entry, patterns, tensor):
                return entry
        return None

    def match(self, rule: Rule, tensors: Sequence[TensorInfo], quantizable: set[str]) -> Match:
        if (named := self._named.get(rule.tensors)) is None:  # several rules are about the same tensors
            by_role = {role: _that_may_match(rule.tensors, role) for role in self._keep_by_role}
            named = [t for t in tensors if (some := by_role[t.role]) and self._names(some, t, quantizable)]
            self._named[rule.tensors] = named
        layers = {tensor.layer for tensor in named}
        if rule.layers is not None:
            layers = {layer for layer in layers if rule.layers.contains(layer, self._n_layers)}
        # Ranks count every tensor that the rule names, so that `rank` means the same whatever its layers are.
        left = [(rank, tensor) for rank, tensor in enumerate(named) if tensor.layer in layers]
        return Match(
            named=frozenset(t.name for t in named),
            in_layers=frozenset(t.name for _, t in left),
            matched=frozenset(t.name for rank, t in left if self._holds(rule, t, rank, len(named))),
        )

    def _names(self, patterns: Sequence[Pattern], tensor: TensorInfo, quantizable: set[str]) -> bool:
        reachable, hidden = tensor.name in quantizable, tensor.name in self._shadowed
        return any(
            pattern.reaches(tensor, self._head, quantizable=reachable, shadowed=hidden)
            for pattern in patterns
        )

    def _keeps(self, entry: KeepEntry, patterns: Sequence[Pattern], tensor: TensorInfo) -> bool:
        hidden = tensor.name in self._shadowed
        for pattern in patterns:  # a loop: this is asked of every tensor for every entry
            if pattern.matches(tensor, self._head, shadowed=hidden):
                return self._holds(entry, tensor, 0, 1)  # entries of the kept list have no ranks
        return False

    def _holds(self, rule: Rule | KeepEntry, tensor: TensorInfo, rank: int, count: int) -> bool:
        if rule.when is None:
            return True
        covered = self._covered is not None and self._covered(tensor)
        stored = self._model.source_type(tensor)
        facts = tensor_facts(tensor, rank=rank, count=count, covered=covered, source_type=stored)
        try:
            return bool(rule.when.evaluate({**self._facts, **facts}))
        except RecipeError as error:
            raise PlanError(error.at(rule.origin.file, rule.origin.line)) from error


def _that_may_match(patterns: Sequence[Pattern], role: str) -> tuple[Pattern, ...]:
    return tuple(pattern for pattern in patterns if pattern.may_match(role))


def _idle(rule: Rule, match: Match, found: Trace, *, hint: bool) -> Problem | None:
    """Why a rule of the user's own file can't do anything on this model, if so; with what it may have meant."""
    file, line = rule.origin.file, rule.origin.line
    decided, n_layers = found.decided, found.n_layers
    patterns = ", ".join(str(pattern) for pattern in rule.tensors)
    if not match.in_layers:
        if rule.optional:  # it is for models that have such tensors
            return None
        if match.named:
            what = (
                f"no tensor named by {patterns!r} is in these layers: the model has layers 0-{n_layers - 1}"
            )
        else:
            what = f"no tensor of this model is named by {patterns!r}"
        remedy = "`quantrecipe inspect MODEL` lists the names; `optional: true` if only some models have them"
        if hint and not match.named:
            roles = {tensor.role for tensor in found.tensors}
            hints = (meant(str(pattern), roles) for pattern in rule.tensors[:_MOST_HINTS])
            remedy = "; ".join((*dict.fromkeys(filter(None, hints)), remedy))
        return Problem(
            file=file, line=line, code="QR203" if match.named else "QR202", what=what, remedy=remedy
        )
    hiders = [
        decided[name] for name in sorted(match.matched) if decided[name] is not rule and decided[name].own
    ]
    if rule.optional and any(hider.when is not None for hider in hiders):
        return None  # on another model it has something to do
    if match.matched and len(hiders) == len(match.matched):
        lines = ", ".join(dict.fromkeys(str(hider.origin.line) for hider in hiders))
        return Problem(
            file=file,
            line=line,
            code="QR201",
            what=f"this rule never decides: line {lines} takes every tensor of {patterns!r} before it",
            remedy="the first rule that matches wins: move this one up, or narrow the earlier one",
        )
    return None
