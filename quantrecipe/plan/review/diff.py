"""What differs between two sides of one model: tensor by tensor, in groups that a person can review.

Sides are compared by what they make of the model, not by what they are written like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.plain_data import fields_of, rounded_bits
from quantrecipe.plan.assign import FLOATS
from quantrecipe.plan.metadata import OURS
from quantrecipe.plan.review.rule_changes import Decided, RuleChange, rule_changes
from quantrecipe.plan.review.sides import Fate, Side

__all__ = ["Change", "Costs", "PlanDiff", "diff_sides"]

Kind = Literal["changed", "added", "removed", "same"]


class Costs(Protocol):
    """What a sensitivity file knows."""

    def cost(self, name: str, type_: str, /) -> float | None:
        """How much the model's output moves where this tensor has this type; None where nobody measured it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Tensors of one role that go from one type to one other, for the same rules.

    before, after: the fates of the same tensors, in the same order; one of them is empty for tensors that only
                   the other side has
    cost_before, cost_after: summed over the tensors; None where the cost of one of them isn't known
    """

    kind: Kind
    before: tuple[Fate, ...]
    after: tuple[Fate, ...]
    cost_before: float | None = None
    cost_after: float | None = None

    @property
    def members(self) -> tuple[Fate, ...]:
        """The tensors as they are after, or as they were where they are gone."""
        return self.after or self.before

    @property
    def role(self) -> str:
        """The role that all members have."""
        return self.members[0].tensor.role

    @property
    def layers(self) -> str:
        """The members' layers, such as "0-3, 28-31"; empty for tensors outside the layers."""
        return layer_ranges(f.tensor.layer for f in self.members if f.tensor.layer is not None)

    @property
    def nbytes_before(self) -> int:
        """Bytes that the members had together before."""
        return sum(fate.nbytes for fate in self.before)

    @property
    def nbytes_after(self) -> int:
        """Bytes that the members have together after."""
        return sum(fate.nbytes for fate in self.after)

    @property
    def delta(self) -> int:
        """By how many bytes the members have grown; negative where they have shrunk."""
        return self.nbytes_after - self.nbytes_before

    def bits(self, fates: tuple[Fate, ...]) -> float | None:
        """Bits per weight of `before` or `after`; None where there are none."""
        weights = sum(fate.tensor.size for fate in fates)
        return 8 * sum(fate.nbytes for fate in fates) / weights if weights else None

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            **fields_of(self, "kind", "role", "layers"),
            "tensors": [fate.tensor.name for fate in self.members],
            "before": _of_all(self.before, self.bits(self.before), self.cost_before),
            "after": _of_all(self.after, self.bits(self.after), self.cost_after),
            "delta": self.delta,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanDiff:
    """What differs between two sides of one model.

    model:    as the user named it
    changes:  what is different, in the order of the roles' first tensors
    same:     what isn't, in groups of the same kind
    metadata: keys whose values differ, with both; None where a side doesn't have the key
    rules:    what is different in the text of the recipes, and what each of that does here
    cost_before, cost_after: the estimated error of all tensors whose cost is known on both sides
    unknown_costs: how many others there are; None without a sensitivity file
    """

    model: str
    old: Side
    new: Side
    changes: tuple[Change, ...]
    same: tuple[Change, ...]
    metadata: Mapping[str, tuple[GGUFValue | None, GGUFValue | None]]
    rules: tuple[RuleChange, ...]
    cost_before: float | None = None
    cost_after: float | None = None
    unknown_costs: int | None = None

    @property
    def differs(self) -> bool:
        """True if the files would differ in more than what they record of the recipe."""
        return bool(self.changes or self.metadata)

    @property
    def delta(self) -> int:
        """By how many bytes the new file is larger; negative where it is smaller."""
        return self.new.nbytes - self.old.nbytes

    @property
    def unchanged(self) -> int:
        """Number of tensors whose data stays as it is."""
        return sum(len(change.members) for change in self.same)

    @property
    def touched(self) -> int:
        """Number of tensors that change."""
        return sum(len(change.members) for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order; documented in docs/review.md."""
        return {
            **fields_of(self, "model", "differs"),
            "before": self.old.totals(self.cost_before),
            "after": self.new.totals(self.cost_after),
            "delta": self.delta,
            "tensors_changed": self.touched,
            "tensors_unchanged": self.unchanged,
            "tensors_without_estimate": self.unknown_costs,
            "changes": self.changes,
            "metadata": {
                key: {"before": _decoded(before), "after": _decoded(after)}
                for key, (before, after) in self.metadata.items()
            },
            "rules": self.rules,
        }


def diff_sides(model: str, old: Side, new: Side, costs: Costs | None = None) -> PlanDiff:
    """Compare two sides; `model` is what the model is called."""
    names = list(dict.fromkeys([*new.tensors, *old.tensors]))
    groups: dict[tuple[object, ...], list[tuple[Fate | None, Fate | None]]] = {}
    roles: dict[str, int] = {}
    changed: set[str] = set()
    for name in names:
        before, after = old.tensors.get(name), new.tensors.get(name)
        if (kind := _kind(before, after)) != "same":
            changed.add(name)
        either = new.tensors.get(name) or old.tensors[name]
        roles.setdefault(either.tensor.role, len(roles))
        groups.setdefault((either.tensor.role, kind, *_key(before), *_key(after)), []).append((before, after))
    all_changes = [_change(key[1], members, costs) for key, members in groups.items()]  # type: ignore[arg-type]  # the kind
    all_changes.sort(key=lambda change: (roles[change.role], change.members[0].tensor.layer or 0))
    known = _total_costs(names, old, new, costs)
    return PlanDiff(
        model=model,
        old=old,
        new=new,
        changes=tuple(change for change in all_changes if change.kind != "same"),
        same=tuple(change for change in all_changes if change.kind == "same"),
        metadata=_metadata(old.metadata, new.metadata),
        rules=_rules(old, new, changed),
        cost_before=known[0],
        cost_after=known[1],
        unknown_costs=known[2],
    )


def _kind(before: Fate | None, after: Fate | None) -> Kind:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    return "changed" if before.differs(after) else "same"


def _key(fate: Fate | None) -> tuple[object, ...]:
    """What the members of a group have in common on one side."""
    return (None,) if fate is None else (fate.label, fate.because, fate.wanted, fate.importance)


def _change(kind: Kind, members: Iterable[tuple[Fate | None, Fate | None]], costs: Costs | None) -> Change:
    pairs = list(members)
    before = tuple(fate for fate, _ in pairs if fate is not None)
    after = tuple(fate for _, fate in pairs if fate is not None)
    return Change(
        kind=kind,
        before=before,
        after=after,
        cost_before=_cost(before, costs),
        cost_after=_cost(after, costs),
    )


def _cost(fates: tuple[Fate, ...], costs: Costs | None) -> float | None:
    if costs is None or not fates:
        return None
    known = [_cost_of(fate, costs) for fate in fates]
    return None if None in known else sum(cost for cost in known if cost is not None)


def _cost_of(fate: Fate, costs: Costs) -> float | None:
    cost = costs.cost(fate.tensor.name, fate.type)
    return 0.0 if cost is None and fate.type in FLOATS else cost  # nobody measures what floats lose


def _total_costs(
    names: Iterable[str], old: Side, new: Side, costs: Costs | None
) -> tuple[float | None, float | None, int | None]:
    """The cost before and after, and how many quantized tensors are left out since one of their costs isn't known."""
    if costs is None:
        return None, None, None
    before = after = 0.0
    unknown = counted = 0
    for name in names:
        pair = [_cost_of(side.tensors[name], costs) if name in side.tensors else None for side in (old, new)]
        if pair[0] is None or pair[1] is None:  # of a tensor that stays as it is the cost needn't be known
            unknown += len({side.tensors[name].label for side in (old, new) if name in side.tensors}) > 1
        else:
            before, after, counted = before + pair[0], after + pair[1], counted + 1
    return (before, after, unknown) if counted else (None, None, unknown)


def _metadata(
    old: Mapping[str, GGUFValue] | None, new: Mapping[str, GGUFValue] | None
) -> dict[str, tuple[GGUFValue | None, GGUFValue | None]]:
    """What the files say besides their provenance."""
    if old is None or new is None:
        return {}
    keys = [key for key in dict.fromkeys([*old, *new]) if not key.startswith(OURS)]
    return {key: (old.get(key), new.get(key)) for key in sorted(keys) if old.get(key) != new.get(key)}


def _rules(old: Side, new: Side, changed: set[str]) -> tuple[RuleChange, ...]:
    if old.recipe is None or new.recipe is None:
        return ()

    def decided(side: Side) -> Decided:
        """How many tensors each line decides, and how many of them change."""
        return Decided(
            tensors=Counter(fate.because for fate in side.tensors.values()),
            changed=Counter(fate.because for name, fate in side.tensors.items() if name in changed),
        )

    return rule_changes(old.recipe, new.recipe, decided(old), decided(new))


def _of_all(fates: tuple[Fate, ...], bits: float | None, cost: float | None) -> dict[str, Any] | None:
    """What tensors that fare alike have in common, and their bytes together; None where there are none."""
    if not fates:
        return None
    first = fates[0]
    return {
        **fields_of(first, "type", "options"),
        "fallback_from": first.wanted,
        "nbytes": sum(fate.nbytes for fate in fates),
        "bits_per_weight": rounded_bits(bits),
        "estimated_error": cost,
        **fields_of(first, "because", "why", "importance"),
    }


def _decoded(value: GGUFValue | None) -> Any:
    return None if value is None else value.decode()
