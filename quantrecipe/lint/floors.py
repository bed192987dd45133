"""QR302: types below what is advised for a role."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.lint.advice import Floor, load_advice
from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Outcome, Subject, View, names
from quantrecipe.recipe.recipe import Rule
from quantrecipe.tensor import head_name

__all__ = ["floors"]


def floors(subject: Subject) -> Iterator[Finding]:
    """One finding for each rule and floor; of inherited rules only where the advice says so."""
    found: dict[tuple[int, int], tuple[Rule | None, Floor, list[Outcome], list[str]]] = {}
    all_floors = load_advice().floors
    for view in subject.views:
        for number, floor in enumerate(all_floors):
            for outcome in _below(subject, view, floor):
                entry = found.setdefault((id(outcome.rule), number), (outcome.rule, floor, [], []))
                entry[2].append(outcome)
                entry[3].append(view.name)
    for rule, floor, outcomes, models in found.values():
        types = names(sorted({name for outcome in outcomes for name in outcome.types}))
        roles = names(sorted({outcome.tensor.role for outcome in outcomes}))
        yield subject.finding(
            "QR302",
            subject.place(rule),
            f"{types} for {roles} (on {names(models)}) is below the {floor.bits:g} bits per weight that are advised",
            f"{floor.why}; source: {floor.source}",
        )


def _below(subject: Subject, view: View, floor: Floor) -> Iterator[Outcome]:
    head = head_name(view.bare.tensors)
    for outcome in view.outcomes:
        own = outcome.rule.own if outcome.rule is not None else _own_default(subject)
        if not (own or floor.inherited):
            continue
        if any(role.matches(outcome.tensor, head) for role in floor.roles):
            formats = [fmt for fmt in map(subject.format, outcome.types) if fmt is not None]
            if formats and all(fmt.spec.bits_per_weight < floor.bits for fmt in formats):
                yield outcome


def _own_default(subject: Subject) -> bool:
    origin = subject.recipe.default_origin
    return origin is not None and origin.file == subject.recipe.file
