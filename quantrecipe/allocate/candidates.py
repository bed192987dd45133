"""The types that a `choose` rule leaves open to each tensor, with their bytes and what they would cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import PlanError
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.importance import may_lack_importance
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.trace import Decision
from quantrecipe.recipe.target import Target
from quantrecipe.targets.targets import load_targets

__all__ = ["Candidate", "candidates"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One type for one tensor: as the rule calls it, what that comes to, and what it costs."""

    type: str
    choice: Choice
    nbytes: int
    loss: float


def candidates(decision: Decision, resolution: Resolution, losses: Losses) -> list[Candidate]:
    """The ways that are open to a tensor, at least one; each resulting format once. PlanError where there is none.

    A type that doesn't accept the tensor, that is bad without importance which it hasn't, or that the recipe's
    target doesn't run is no candidate, if that leaves any.
    """
    recipe, tensor = resolution.recipe, decision.tensor
    found: list[tuple[str, Choice]] = []
    failures: list[PlanError] = []
    for type_ in decision.rule.choose if decision.rule is not None else ():
        try:
            found.append((type_, choose_format(replace(decision, type=type_), resolution)))
        except PlanError as error:
            failures.append(error)
    if not found:
        raise failures[0] if failures else PlanError(f"{tensor.name} has no types to choose from")
    fitting = _some(found, lambda choice: choice.wanted is None)
    if tensor.name not in resolution.covered:
        fitting = _some(fitting, lambda choice: may_lack_importance(choice.format.spec, tensor, recipe))
    if recipe.target is not None:
        running = _running(recipe.target)
        fitting = _some(fitting, lambda choice: running(choice.format.spec.name))
    # Two types may come to one format by their fallbacks: the one that the rule names first stands for both.
    unique = {choice.format.spec.name: (type_, choice) for type_, choice in reversed(fitting)}
    return [
        Candidate(
            type=type_,
            choice=choice,
            nbytes=choice.format.spec.tensor_bytes(tensor.shape),
            loss=0.0 if choice.copied else losses.of(tensor.name, choice.format.spec),
        )
        for type_, choice in reversed(unique.values())
    ]


def _some(
    found: Sequence[tuple[str, Choice]], wanted: Callable[[Choice], bool]
) -> Sequence[tuple[str, Choice]]:
    """Those that are wanted; all if that is none, so that what is wrong with them is said where it is known best."""
    return [it for it in found if wanted(it[1])] or found


def _running(target: Target) -> Callable[[str], bool]:
    table = load_targets()
    return lambda name: table.runs(target.engine, target.build, target.device, name).speed != "no"
