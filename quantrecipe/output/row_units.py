"""Units of work: some rows of a tensor. Small enough for a cache, independent of each other.

Splits don't show in the output: a format's bytes are the same for any grouping of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quantrecipe.tensor import TensorInfo

__all__ = ["CHUNK_WEIGHTS", "ENCODER_ROWS", "PART_WEIGHTS", "Unit", "parts", "split"]

CHUNK_WEIGHTS = 1 << 20
"""Weights that a unit aims at: enough for reads and writes that cost little beside what they move."""

PART_WEIGHTS = 1 << 19
"""Weights of a unit that are float32 at the same time: 2 MiB, which stay in a cache with what they become.

Smaller parts would stay in smaller caches, but each takes Python, which only one thread at a time can run; with 64
threads that is what they wait for (docs/many-cores.md).
"""


ENCODER_ROWS = 256
"""Rows of a unit and of a part, at least, where an encoder makes the bytes: what it loads for an input serves all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Rows `start` to `stop` of a tensor, counted over all experts; all are of one expert."""

    tensor: TensorInfo
    expert: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows in the unit."""
        return self.stop - self.start


def split(
    tensor: TensorInfo,
    together: int = 1,
    chunk: int = CHUNK_WEIGHTS,
    *,
    rows: tuple[int, int] | None = None,
) -> Iterator[Unit]:
    """The units of a tensor, in the order of its rows.

    None crosses an expert, and all have a multiple of `together` rows: a head, or a group of interleaved rows.

    rows: only those from one to another, counted over all experts, which are ends of units themselves; None: all
    """
    step = max(1, chunk // (tensor.cols * together)) * together
    begin, end = rows or (0, tensor.experts * tensor.rows)
    height = max(1, tensor.rows)
    for expert in range(begin // height, -(-end // height)):
        first, last = max(begin, expert * tensor.rows), min(end, (expert + 1) * tensor.rows)
        for start in range(first, last, step):
            yield Unit(tensor=tensor, expert=expert, start=start, stop=min(start + step, last))


def parts(unit: Unit, together: int = 1, weights: int = PART_WEIGHTS) -> Iterator[Unit]:
    """The unit in smaller pieces, in the order of its rows; all but the last have a multiple of `together` rows."""
    step = max(1, weights // (unit.tensor.cols * together)) * together
    for start in range(unit.start, unit.stop, step):
        yield Unit(tensor=unit.tensor, expert=unit.expert, start=start, stop=min(start + step, unit.stop))
