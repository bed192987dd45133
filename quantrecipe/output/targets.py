"""Targets: what is to become of a tensor's rows, and where in which files the result belongs.

Outputs that give a tensor the same type, options and importance share a target: it is quantized once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.output.reuse import OldTensor
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.plan import Assignment, Plan, PlannedFile

__all__ = ["Output", "Place", "Sink", "Target", "targets_of"]


class Sink(Protocol):
    """Where bytes go, at any offset, from any thread: a file that is written, or one that is compared with."""

    def write(self, data: memoryview, offset: int) -> None: ...


Assigned: TypeAlias = dict[str, tuple[Assignment, Sink]]
"""By tensor name: what becomes of it, and the file that it goes to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """A plan on its way into files."""

    plan: Plan
    files: tuple[tuple[PlannedFile, Sink], ...]
    old: dict[str, OldTensor] = field(default_factory=dict)

    def assignments(self) -> Assigned:
        """By tensor name: what becomes of it, and the file that it goes to."""
        return {a.tensor.name: (a, part) for planned, part in self.files for a in planned.assignments}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a tensor's data starts in a file; `output` is the number of the output that the file belongs to."""

    output: int
    tensor: str
    file: Sink
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One encoding of a tensor, for all places that want it.

    importance: float32 (experts, cols), or None
    old:        the same encoding in an older file, to be copied if the source is still the same
    companions: where the factors of a format with a companion tensor go
    factors:    float32 (experts,): what each expert's matrix is divided by, once that is known
    """

    format: QuantFormat
    copied: bool
    importance: NDArray[np.float32] | None
    places: tuple[Place, ...]
    old: OldTensor | None
    companions: tuple[Place, ...] = ()
    factors: NDArray[np.float32] | None = None


def targets_of(name: str, outputs: Sequence[Output], assigned: Sequence[Assigned]) -> list[Target]:
    """The different encodings of a tensor that the outputs want. `assigned`: the assignments of each output."""
    wanted: dict[str, list[tuple[int, Assignment, Sink]]] = {}
    for number, by_name in enumerate(assigned):
        if name in by_name:
            assignment, part = by_name[name]
            wanted.setdefault(assignment.encoding, []).append((number, assignment, part))
    return [_target(members, outputs, assigned) for members in wanted.values()]


def _target(
    members: list[tuple[int, Assignment, Sink]], outputs: Sequence[Output], assigned: Sequence[Assigned]
) -> Target:
    number, first, _ = members[0]
    matrix = outputs[number].plan.importance
    old = None
    for output, assignment, _ in members:
        found = outputs[output].old.get(assignment.tensor.name)
        if found is not None and found.encoding == assignment.encoding:
            old = found
    companions: tuple[Place, ...] = ()
    if first.format.spec.companion is not None and not first.copied:
        name = companion_name(first.tensor, first.format.spec.companion)
        owned = ((n, *assigned[n][name]) for n, _, _ in members)
        companions = tuple(Place(output=n, tensor=name, file=part, offset=a.offset) for n, a, part in owned)
    return Target(
        format=first.format,
        copied=first.copied,
        importance=matrix.for_tensor(first.tensor) if matrix is not None and first.importance else None,
        places=tuple(
            Place(output=n, tensor=a.tensor.name, file=part, offset=a.offset) for n, a, part in members
        ),
        old=None if first.copied or companions else old,  # factors are quickly had again
        companions=companions,
    )
