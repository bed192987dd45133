"""Groups of tensors that a plan treats alike, so that a model of 60 layers fits on a screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.plain_data import fields_of, rounded_bits
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.tensor import is_table

__all__ = ["Group", "PartTotal", "TypeTotal", "group", "part_totals", "totals"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Tensors of one role with one type, decided by one rule in one way."""

    role: str
    members: tuple[Assignment, ...]

    @property
    def first(self) -> Assignment:
        """Any member tells what all have in common."""
        return self.members[0]

    @property
    def layers(self) -> str:
        """The members' layers, such as "0-3, 28-31"; empty for tensors outside the layers."""
        return layer_ranges(a.tensor.layer for a in self.members if a.tensor.layer is not None)

    @property
    def weights(self) -> int:
        """Number of weights that the members have together."""
        return sum(a.tensor.size for a in self.members)

    @property
    def nbytes(self) -> int:
        """Bytes that the members take together."""
        return sum(a.nbytes for a in self.members)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The different shapes of the members, in order."""
        return tuple(dict.fromkeys(a.tensor.shape for a in self.members))


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeTotal:
    """What all tensors of one type take together."""

    type: str
    tensors: int
    weights: int
    nbytes: int


def group(assignments: Iterable[Assignment]) -> list[Group]:
    """Groups by what decided and what came of it; in the order of their roles' first tensors."""
    groups: dict[tuple[object, ...], list[Assignment]] = {}
    roles: dict[str, int] = {}
    for a in assignments:
        roles.setdefault(a.tensor.role, len(roles))
        # All that a line of the table shows, so that the members of a group look alike there.
        key = (
            a.tensor.role,
            a.type,
            tuple(a.format.options.items()),
            a.because,
            a.wanted,
            a.misfit,
            a.importance,
        )
        groups.setdefault(key, []).append(a)
    found = [Group(role=members[0].tensor.role, members=tuple(members)) for members in groups.values()]
    return sorted(found, key=lambda g: (roles[g.role], g.first.tensor.layer or 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class PartTotal:
    """What some of a plan's tensors take together."""

    tensors: int
    weights: int
    nbytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight as stored; 0 where there are none."""
        return 8 * self.nbytes / self.weights if self.weights else 0.0

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        bits = {"bits_per_weight": rounded_bits(self.bits_per_weight)}
        return fields_of(self, "tensors", "weights", "nbytes") | bits


def part_totals(plan: Plan) -> tuple[PartTotal, PartTotal]:
    """The tables of which a token reads a row, and all other tensors."""
    head = plan.model.head
    tables = [a for a in plan.assignments if is_table(a.tensor, head)]
    names = {a.tensor.name for a in tables}
    return _part(tables), _part([a for a in plan.assignments if a.tensor.name not in names])


def _part(members: Sequence[Assignment]) -> PartTotal:
    return PartTotal(
        tensors=len(members),
        weights=sum(a.tensor.size for a in members),
        nbytes=sum(a.nbytes for a in members),
    )


def totals(assignments: Iterable[Assignment]) -> list[TypeTotal]:
    """What each type takes, the largest first."""
    by_type: dict[str, list[Assignment]] = {}
    for a in assignments:
        by_type.setdefault(a.type, []).append(a)
    result = [
        TypeTotal(
            type=name,
            tensors=len(members),
            weights=sum(a.tensor.size for a in members),
            nbytes=sum(a.nbytes for a in members),
        )
        for name, members in by_type.items()
    ]
    return sorted(result, key=lambda total: (-total.nbytes, total.type))
