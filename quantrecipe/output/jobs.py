"""Jobs: tensors on their way into files. Encodings: the different ways in which the jobs of a tensor want it.

Jobs that give a tensor the same type, options and importance share an encoding: it is quantized once, and written to
the places of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.importance.matrix import Importance
from quantrecipe.output.kept import Entry
from quantrecipe.output.reuse import OldTensor
from quantrecipe.output.store.store import Addition
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.statistics import Statistics

__all__ = ["Encoding", "Job", "JobsByTensor", "Sink", "encodings_of", "jobs_by_tensor"]


class Sink(Protocol):
    """Where bytes go, at any offset, from any thread: a file that is written, or one that is compared with."""

    def write(self, data: memoryview, offset: int) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One tensor on its way into one file.

    assignment: what becomes of the tensor; its offset is the place in the sink where the data begins
    importance: the matrix that the assignment uses, if it uses one
    statistics: what its encoder knows of the inputs
    output:     number of the output that the sink belongs to: several outputs may be written in one pass
    old:        the tensor's data in an older file, if it was made in the same way
    entry:      the tensor in the journal of its output, where one is kept
    """

    assignment: Assignment
    sink: Sink
    importance: Importance | None = None
    statistics: Statistics | None = None
    output: int = 0
    old: OldTensor | None = None
    entry: Entry | None = None

    @property
    def tensor(self) -> str:
        """Name of the tensor."""
        return self.assignment.tensor.name


JobsByTensor: TypeAlias = Mapping[str, Sequence[Job]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """One encoding of a tensor, for all jobs that want it.

    importance: float32 (experts, cols), or None
    old:        the same encoding in an older file, to be copied if the source is still the same
    companions: jobs of the factors, for a format that keeps some in a tensor beside the matrix
    factors:    float32 (experts,): what each expert's matrix is divided by, once that is known
    addition:   where a store gets the bytes, too, from 0 on
    """

    jobs: tuple[Job, ...]
    importance: NDArray[np.float32] | None
    old: OldTensor | None
    companions: tuple[Job, ...] = ()
    factors: NDArray[np.float32] | None = None
    addition: Addition | None = None

    @property
    def digest(self) -> str:
        """Of all that the bytes depend on besides the source."""
        return self.jobs[0].assignment.encoding

    @property
    def format(self) -> QuantFormat:
        """The format that all jobs want."""
        return self.jobs[0].assignment.format

    @property
    def copied(self) -> bool:
        """True where the source's bytes are the output's."""
        return self.jobs[0].assignment.copied


def jobs_by_tensor(jobs: Sequence[Job]) -> JobsByTensor:
    """The jobs of each tensor, by its name."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.tensor, []).append(job)
    return found


def encodings_of(name: str, jobs: JobsByTensor) -> list[Encoding]:
    """The different encodings that the jobs of one tensor want."""
    wanted: dict[str, list[Job]] = {}
    for job in jobs[name]:
        wanted.setdefault(job.assignment.encoding, []).append(job)
    return [_encoding(members, jobs) for members in wanted.values()]


def _encoding(members: Sequence[Job], jobs: JobsByTensor) -> Encoding:
    first = members[0].assignment
    matrix = members[0].importance
    companions: tuple[Job, ...] = ()
    if first.format.spec.companion is not None and not first.copied:
        outputs = {job.output for job in members}
        beside = jobs[companion_name(first.tensor, first.format.spec.companion)]
        companions = tuple(job for job in beside if job.output in outputs)
    old = None
    if (
        not first.copied and not companions
    ):  # factors are quickly had again, and what is copied needs no older file
        old = next((job.old for job in members if job.old is not None), None)
    return Encoding(
        jobs=tuple(members),
        importance=matrix.for_tensor(first.tensor) if matrix is not None and first.importance else None,
        old=old,
        companions=companions,
    )
