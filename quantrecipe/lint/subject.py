"""Subject: what lints look at: a recipe, what it does on each of some models, and the tables that judge it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from quantrecipe.api import QuantFormat
from quantrecipe.errors import PlanError, Problem
from quantrecipe.lint.finding import Finding, Severity
from quantrecipe.model.model import Model
from quantrecipe.plan.resolution import resolve
from quantrecipe.plan.trace import Trace, covers_all
from quantrecipe.recipe.recipe import KEEP, Origin, Recipe, Rule
from quantrecipe.registry import Registry
from quantrecipe.targets import Targets
from quantrecipe.tensor import TensorInfo
from quantrecipe.wording import some_of

__all__ = ["GivenModel", "Outcome", "Subject", "View", "look", "names", "on_model"]

_MOST_NAMES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenModel:
    """A model to check on. `reference`: True where it only stands for models of its kind, and needn't be one that
    the recipe is for.
    """

    name: str
    model: Model
    reference: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What becomes of a tensor: its type, or those that the optimiser may choose from. `rule` None: the default."""

    tensor: TensorInfo
    types: tuple[str, ...]
    rule: Rule | None


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The recipe on one model.

    bare, weighted: how rules meet tensors without an importance matrix, and with one that covers everything
    outcomes:       the tensors that get another type than the source's, as it is if the recipe's wishes are met
    """

    name: str
    model: Model
    reference: bool
    n_layers: int
    n_blocks: int
    bare: Trace
    weighted: Trace
    outcomes: tuple[Outcome, ...]

    @property
    def types(self) -> Mapping[str, tuple[str, ...]]:
        """By the name of the tensor, the types of its outcome."""
        return {it.tensor.name: it.types for it in self.outcomes}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A recipe under examination.

    views:  of the models on which it could be resolved
    failed: what kept it from being resolved on the others
    strict: reasons are demanded
    """

    recipe: Recipe
    registry: Registry
    targets: Targets
    views: tuple[View, ...]
    failed: tuple[Finding, ...] = ()
    strict: bool = False

    @property
    def own_rules(self) -> tuple[Rule, ...]:
        """The rules of the file itself."""
        return tuple(rule for rule in self.recipe.rules if rule.own)

    def place(self, rule: Rule | None) -> Origin:
        """Where in the recipe's own file a rule comes from; of an inherited one, the `extends` that brought it."""
        if rule is not None and rule.own:
            return rule.origin
        if rule is not None and rule.through:
            return rule.through[0]
        default = self.recipe.default_origin
        if rule is None and default is not None and default.file == self.recipe.file:
            return default
        extends = next((rule.through[0] for rule in self.recipe.rules if rule.through), None)
        return extends or self.first_line

    @property
    def first_line(self) -> Origin:
        """The place of what is said of the whole file."""
        return Origin(file=self.recipe.file, line=1)

    def finding(
        self, code: str, origin: Origin, what: str, remedy: str, severity: Severity | None = None
    ) -> Finding:
        """A finding at this place, as serious as its code says unless told otherwise."""
        problem = Problem(what=what, remedy=remedy, file=origin.file, line=origin.line)
        return Finding.of(code, problem, severity)

    def format(self, name: str) -> QuantFormat | None:
        """The format of this name; None for `keep`."""
        return self.registry.formats.get(name)

    def types_in_use(self) -> dict[str, Rule | None]:
        """Every type that the recipe gives on the models, or anywhere if there are none, with a rule that does; an own
        one if there is.
        """
        pairs: Iterator[tuple[str, Rule | None]]
        if self.views:
            pairs = ((name, it.rule) for view in self.views for it in view.outcomes for name in it.types)
        else:
            pairs = self._types_in_rules()
        found: dict[str, Rule | None] = {}
        for name, rule in pairs:
            if name not in found or (rule is not None and rule.own and not _is_own(found[name])):
                found[name] = rule
        return found

    def _types_in_rules(self) -> Iterator[tuple[str, Rule | None]]:
        for rule in self.recipe.rules:
            yield from ((name, rule) for name in rule.choose or (rule.type,) if name != KEEP)
        if self.recipe.default not in (None, KEEP):
            yield str(self.recipe.default), None


def look(
    recipe: Recipe, models: Sequence[GivenModel], registry: Registry, targets: Targets, *, strict: bool
) -> Subject:
    """The recipe on each of the models."""
    views: list[View] = []
    failed: list[Finding] = []
    for given in models:
        try:
            views.append(_view(recipe, given, registry))
        except PlanError as error:
            failed += (Finding.of("QR209", on_model(problem, given.name)) for problem in error.problems)
    return Subject(
        recipe=recipe,
        registry=registry,
        targets=targets,
        views=tuple(views),
        failed=tuple(failed),
        strict=strict,
    )


def names(items: Sequence[str]) -> str:
    """A few names, and how many more."""
    return some_of(dict.fromkeys(items), _MOST_NAMES)


def _view(recipe: Recipe, given: GivenModel, registry: Registry) -> View:
    resolution = resolve(recipe, given.model, registry)
    model, bare = resolution.model, resolution.trace
    weighted = bare
    if _asks_for_importance(recipe):
        weighted = resolve(recipe, given.model, registry, covered=covers_all).trace
    wanted = weighted if _wants_importance(recipe) else bare
    outcome = partial(_outcome, wanted)
    return View(
        name=given.name,
        model=model,
        reference=given.reference,
        n_layers=bare.n_layers,
        n_blocks=max((t.layer + 1 for t in model.tensors if t.layer is not None), default=0),
        bare=bare,
        weighted=weighted,
        outcomes=tuple(it for it in map(outcome, wanted.tensors) if it.types),
    )


def _outcome(found: Trace, tensor: TensorInfo) -> Outcome:
    decision = found.decision(tensor)
    types = (decision.type,) if decision.type or decision.rule is None else decision.rule.choose
    return Outcome(tensor=tensor, types=() if types == (KEEP,) else types, rule=decision.rule)


def _asks_for_importance(recipe: Recipe) -> bool:
    conditions = [*(rule.when for rule in recipe.rules), *(entry.when for entry in recipe.keep)]
    return any(it is not None and it.names & {"has_importance", "covered"} for it in conditions)


def _wants_importance(recipe: Recipe) -> bool:
    source = recipe.importance
    return bool(source.required or source.required_for or source.file)


def _is_own(rule: Rule | None) -> bool:
    return rule is not None and rule.own


def on_model(problem: Problem, model: str) -> Problem:
    """The problem, which says on which model it is one."""
    return replace(problem, what=f"{problem.what} (on {model})")
