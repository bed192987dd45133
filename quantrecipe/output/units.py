"""Units of work: (tensor, rows) → bytes at an offset. Small enough for a cache, independent of each other.

Splits don't show in the output: a format's bytes are the same for any grouping of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm

from quantrecipe.plan.plan import Assignment

__all__ = ["CHUNK_WEIGHTS", "Unit", "split"]

CHUNK_WEIGHTS = 1 << 19
"""Weights that a unit aims at: 2 MiB as float32, so that a thread's buffers stay near its caches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Rows `start` to `stop` of a tensor, all of one expert, that belong at `offset` in the output."""

    assignment: Assignment
    expert: int
    start: int
    stop: int
    offset: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def last(self) -> bool:
        """True for the unit that completes its tensor."""
        tensor = self.assignment.tensor
        return self.stop == tensor.rows * tensor.experts


def split(assignment: Assignment, rows_per_head: int = 1, chunk: int = CHUNK_WEIGHTS) -> Iterator[Unit]:
    """The units of a tensor, in the order of its rows; none crosses an expert, a head, or a group of rows."""
    tensor, spec = assignment.tensor, assignment.format.spec
    row_bytes = spec.row_bytes(tensor.cols)
    together = lcm(rows_per_head, spec.rows_per_group)
    step = max(1, chunk // (tensor.cols * together)) * together
    for expert in range(tensor.experts):
        first = expert * tensor.rows
        for start in range(first, first + tensor.rows, step):
            stop = min(start + step, first + tensor.rows)
            yield Unit(
                assignment=assignment,
                expert=expert,
                start=start,
                stop=stop,
                offset=assignment.offset + start * row_bytes,
            )
