"""Quantize tensors again, and compare every byte with what the file has."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantrecipe.model.source.source import Extent
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.jobs import Job
from quantrecipe.output.progress import Progress
from quantrecipe.output.stream import Stream
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.source import Origin
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import Registry

__all__ = ["Mismatch", "remake", "sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """Where a tensor's data differs: how many bytes, and the place in the file of the first."""

    nbytes: int
    offset: int


class _Compared:
    """A sink that writes nothing: it compares what it gets with what the file has. Thread-safe."""

    def __init__(self, extents: Mapping[str, Extent], reader: TensorReader) -> None:
        # A tensor without elements has no bytes, and begins where the next one does.
        filled = [(name, extent) for name, extent in extents.items() if extent.nbytes]
        self._extents = sorted(filled, key=lambda item: item[1].offset)
        self._starts = [extent.offset for _, extent in self._extents]
        self._reader = reader
        self._lock = threading.Lock()
        self.mismatches: dict[str, Mismatch] = {}
        self.read = 0

    def write(self, data: memoryview, offset: int) -> None:
        """Compare `data` with what is at `offset`."""
        # Only the offset says whose bytes these are, as of any sink.
        made = np.frombuffer(data.cast("B"), np.uint8)
        name, extent = self._extents[bisect_right(self._starts, offset) - 1]
        found = np.empty(made.size, np.uint8)
        self._reader.read((extent,), offset - extent.offset, found, tensor=name)
        places = np.flatnonzero(made != found)
        with self._lock:
            self.read += made.size
            if places.size:
                first, known = offset + int(places[0]), self.mismatches.get(name)
                self.mismatches[name] = Mismatch(
                    nbytes=places.size + (known.nbytes if known else 0),
                    offset=min(first, known.offset) if known else first,
                )


def remake(
    produced: Produced,
    origin: Origin,
    assignments: Sequence[Assignment],
    registry: Registry,
    reader: TensorReader,
    *,
    threads: int,
    progress: Progress,
) -> tuple[dict[str, Mismatch], int]:
    """Where what is made again differs from the file, by tensor; and how many bytes were read.

    assignments: at the offsets that they have in the file; companions are among them
    """
    if not assignments:
        return {}, 0
    extents: dict[Path, dict[str, Extent]] = {}
    for a in assignments:
        extent = produced.extent(a.tensor.name)
        extents.setdefault(extent.path, {})[a.tensor.name] = extent
    sinks = {path: _Compared(its, reader) for path, its in extents.items()}
    jobs = [
        Job(
            assignment=a,
            sink=sinks[produced.extent(a.tensor.name).path],
            importance=origin.resolution.importance,
            statistics=origin.resolution.statistics,
        )
        for a in assignments
    ]
    stream = Stream(
        origin.resolution.model, jobs, registry, threads=threads, nan="compare", progress=progress
    )
    stream.run()
    mismatches = {name: mismatch for sink in sinks.values() for name, mismatch in sink.mismatches.items()}
    return mismatches, stream.read + sum(sink.read for sink in sinks.values())


def sample(assignments: Sequence[Assignment], count: int | None, always: Collection[str]) -> list[Assignment]:
    """So many of them, and those in `always`: all types and roles in turn, and of each the layers spread out.

    The choice depends on the plan alone. None: all.
    """
    if count is None:
        return list(assignments)
    strata: dict[tuple[str, str], list[Assignment]] = {}
    for a in assignments:
        strata.setdefault((a.type, a.tensor.role), []).append(a)
    by_type: dict[str, list[list[Assignment]]] = {}
    for (type_, _), members in sorted(strata.items()):
        by_type.setdefault(type_, []).append(_spread(members))
    turns = [_in_turns(groups) for _, groups in sorted(by_type.items())]
    chosen = {a.tensor.name for a in _in_turns(turns)[:count]} | set(always)
    return [a for a in assignments if a.tensor.name in chosen]


def _in_turns(groups: Sequence[Sequence[Assignment]]) -> list[Assignment]:
    """The first of each group, then the second of each, and so on."""
    longest = max((len(group) for group in groups), default=0)
    return [group[place] for place in range(longest) for group in groups if place < len(group)]


def _spread(members: Sequence[Assignment]) -> list[Assignment]:
    """The middle, then the first, the last, and what lies between them, halving."""
    order: list[int] = []
    spans = [(0, len(members))]
    while spans:
        begin, end = spans.pop(0)
        if begin < end:
            middle = (begin + end) // 2
            order.append(middle)
            spans += [(begin, middle), (middle + 1, end)]
    return [members[place] for place in order]
