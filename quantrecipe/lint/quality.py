"""QR301 to QR304: what others found to be too little for a model: no importance matrix, and few bits per weight.

* QR301: types that need an importance matrix, in a recipe that doesn't say that it wants one. Whoever applies such a
  recipe finds out late, or not at all. `importance: required` is enough: the matrix itself may be given when the recipe
  is applied.
* QR302: types below what is advised for a role.
* QR303, QR304: files of fewer bits per weight than is advised, for any use or for code. The measure is a well-known
  preset on the same model, since bits per weight depend on how much of it is embeddings.

The advice itself is data, with its sources: floors.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from quantrecipe.errors import QuantrecipeError
from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import GivenModel, Outcome, Subject, View, look, names
from quantrecipe.packaged import packaged_table
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.tensor import head_name

__all__ = ["Floor", "Yardstick", "advised_floors", "advised_yardsticks", "floors", "importance", "yardsticks"]

_NEVER_COVERED = ("token_embd", "per_layer_token_embd", "output")
"""Calibration leaves these out."""
_WORTH_A_LOOK = 4.5
"""No yardstick has more bits per weight."""
_WORDS = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The fewest bits per weight that are advised for some roles."""

    roles: tuple[Pattern, ...]
    bits: float
    why: str
    source: str
    inherited: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Yardstick:
    """A recipe whose bits per weight are the fewest that are advised; for recipes that say one of `words`, if any."""

    code: str
    recipe: str
    says: str
    source: str
    words: frozenset[str] = frozenset()


def advised_floors() -> tuple[Floor, ...]:
    """What is advised for roles."""
    table = packaged_table("lint/floors.toml")["floors"]
    return tuple(Floor(**{**row, "roles": tuple(map(Pattern.parse, row["roles"]))}) for row in table)


def advised_yardsticks() -> tuple[Yardstick, ...]:
    """What is advised for whole files, the fewest bits first."""
    table = packaged_table("lint/floors.toml")["yardsticks"]
    return tuple(Yardstick(**{**row, "words": frozenset(row.get("words", ()))}) for row in table)


def importance(subject: Subject) -> Iterator[Finding]:
    """One finding for each rule that gives such types; an error where the type can't be made without."""
    source = subject.recipe.importance
    if source.required or source.file is not None:
        return
    found: dict[int, tuple[Rule | None, list[str]]] = {}
    for name, rule in _needy(subject):
        if name not in source.required_for:
            found.setdefault(id(rule), (rule, []))[1].append(name)
    for rule, types in found.values():
        unique = sorted(set(types))
        levels = {fmt.spec.importance for fmt in map(subject.format, unique) if fmt is not None}
        impossible = "required" in levels
        how = "can't be made" if impossible else "loses much"
        yield subject.finding(
            "QR301",
            subject.place(rule),
            f"{names(unique)} {how} without an importance matrix, and the recipe asks for none",
            "say `importance: required`, or name the file: `importance: {file: imatrix.gguf}`",
            "error" if impossible else None,
        )


def _needy(subject: Subject) -> Iterator[tuple[str, Rule | None]]:
    """The types that need importance, each with the rule that gives it."""
    pairs: Iterable[tuple[str, Rule | None]] = (
        (name, outcome.rule)
        for view in subject.views
        for outcome in view.outcomes
        for name in outcome.types
        if outcome.tensor.role not in _NEVER_COVERED
    )
    for name, rule in pairs if subject.views else subject.types_in_use().items():
        fmt = subject.format(name)
        if fmt is not None and fmt.spec.importance in ("advised", "required"):
            yield name, rule


def floors(subject: Subject) -> Iterator[Finding]:
    """One finding for each rule and floor; of inherited rules only where the advice says so."""
    found: dict[tuple[int, int], tuple[Rule | None, Floor, list[Outcome], list[str]]] = {}
    all_floors = advised_floors()
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


def yardsticks(subject: Subject, models: tuple[GivenModel, ...]) -> Iterator[Finding]:
    """At most one finding for each; the first yardstick that the recipe falls below is the only one told."""
    said = set(_WORDS.findall(f"{subject.recipe.name} {subject.recipe.summary}".lower()))
    low = {view.name: bits for view in subject.views if (bits := _bits(subject, view)) < _WORTH_A_LOOK}
    if not low or len(low) < len(subject.views):
        return
    for yardstick in advised_yardsticks():
        if yardstick.words and not yardstick.words & said:
            continue
        if (finding := _below_yardstick(subject, models, low, yardstick)) is not None:
            yield finding
            return


def _below_yardstick(
    subject: Subject, models: tuple[GivenModel, ...], low: dict[str, float], yardstick: Yardstick
) -> Finding | None:
    try:
        recipe = load_recipe(yardstick.recipe, registry=subject.registry)
    except QuantrecipeError:
        return None  # under other plugins there may be no such recipe
    if recipe.digest == subject.recipe.digest:
        return None
    other = look(recipe, models, subject.registry, subject.targets, strict=False)
    least = {view.name: _bits(other, view) for view in other.views}
    if not all(low[name] < least.get(name, 0.0) for name in low):
        return None
    name = min(low, key=lambda it: low[it])
    origin = subject.place(None) if subject.recipe.default_origin else subject.first_line
    return subject.finding(
        yardstick.code,
        origin,
        f"{low[name]:.2f} bits per weight on {name}, where {yardstick.recipe} has {least[name]:.2f}",
        f"{yardstick.says}; source: {yardstick.source}",
    )


def _bits(subject: Subject, view: View) -> float:
    """Bits per weight of the whole model; of choices, the most that there can be."""
    chosen = {outcome.tensor.name: outcome.types for outcome in view.outcomes}
    bits = size = 0.0
    for tensor in view.bare.tensors:
        types = chosen.get(tensor.name, (tensor.dtype,))
        formats = [fmt for fmt in map(subject.format, types) if fmt is not None]
        if formats:
            bits += max(fmt.spec.bits_per_weight for fmt in formats) * tensor.size
            size += tensor.size
    return bits / size if size else _WORTH_A_LOOK
