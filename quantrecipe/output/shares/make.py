"""Maker: makes the bytes of a unit, wherever they go: to a piece on a shared folder, or back to an executor's caller.

The ranges of a unit stand one after the other, each followed by the factors of its experts, if its format has some:

    rows of tensor 1 | its factors | rows of tensor 2 | …
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from quantrecipe.model.source.digest import combined, hash_bytes
from quantrecipe.model.source.rows_read import read_for
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.jobs import Job, Sink
from quantrecipe.output.progress import Progress
from quantrecipe.output.shares.units import RowRange, WorkUnit
from quantrecipe.output.store.store import Store
from quantrecipe.output.stream import Stream
from quantrecipe.output.transform import Handling
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.registry import Registry
from quantrecipe.remote_files import expecting

__all__ = ["MadeRange", "MadeUnit", "Maker", "Place", "assignments_by_matrix", "places"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeRange:
    """Rows of a tensor that were made, or all factors of their experts.

    tensor, start, stop: as in RowRange; of factors, the rows are experts
    offset, nbytes: where its bytes are in the piece
    data:     XXH3-128 of them, in hex
    source:   the same of all that the tensor was made from; "" where these aren't all rows
    lost:     weights that lost a value that isn't finite
    remarked: how many matrices the encoder made remarks on
    remarks:  the different ones of those
    said:     where these aren't all rows: each matrix's remark, by its number
    """

    tensor: str
    start: int
    stop: int
    offset: int
    nbytes: int
    data: str
    source: str = ""
    lost: int = 0
    remarked: int = 0
    remarks: tuple[str, ...] = ()
    said: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeUnit:
    """What a unit came to.

    nbytes:     of all ranges together
    sources:    the hashes of sources, by tensor, that were wanted beside them
    read:       bytes that were read
    from_store: tensors that were copied from a store
    problems:   what went wrong with it, for people
    """

    number: int
    nbytes: int
    ranges: tuple[MadeRange, ...]
    sources: tuple[tuple[str, str], ...] = ()
    read: int = 0
    from_store: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where rows of a tensor, or factors, are in a unit: bytes `offset` to `offset + nbytes`."""

    assignment: Assignment
    range: RowRange
    offset: int
    nbytes: int

    @property
    def begin(self) -> int:
        """Where in its tensor it begins, in bytes."""
        return self.range.start * _row_bytes(self.assignment)


class Maker:
    """Makes units of a plan, one after the other."""

    def __init__(
        self,
        plan: Plan,
        registry: Registry,
        *,
        threads: int,
        nan: Handling,
        progress: Progress,
        store: Store | None = None,
    ) -> None:
        self._plan, self._registry, self._threads = plan, registry, threads
        self._nan, self._progress, self._store = nan, progress, store
        self._told = 0 if store is None else len(store.problems)
        self._tensors = {tensor.name: tensor for tensor in plan.model.tensors}
        self._by_name = assignments_by_matrix(plan)

    def make(self, unit: WorkUnit, sink: Sink, *, from_store: bool = True) -> MadeUnit:
        """Make it. Errors as `apply_plan`.

        from_store: copy what the store has. What is damaged there is written to the sink a second time.
        """
        with expecting(self._read(unit)):
            return self._make(unit, sink, self._store if from_store else None)

    def _make(self, unit: WorkUnit, sink: Sink, store: Store | None) -> MadeUnit:
        found = list(places(self._by_name, unit))
        stream = Stream(
            replace(self._plan.model, tensors=tuple(self._tensors[it.tensor] for it in unit.ranges)),
            [self._job(it, sink) for it in found],
            self._registry,
            threads=self._threads,
            nan=self._nan,
            progress=self._progress,
            store=store,
            ranges={it.tensor: (it.start, it.stop) for it in unit.ranges if not it.whole},
        )
        if found:
            stream.run()
        sources, read = [], stream.read
        for name in unit.hashed:
            digest, count = self._hash(name)
            sources.append((name, digest))
            read += count
        return MadeUnit(
            number=unit.number,
            nbytes=sum(it.nbytes for it in found),
            ranges=tuple(_made(it, stream) for it in found),
            sources=tuple(sources),
            read=read,
            from_store=tuple(stream.from_store[0]),
            problems=self._untold(),
        )

    def _untold(self) -> tuple[str, ...]:
        """What has gone wrong with the store since it was asked last, also in a unit that wasn't finished."""
        problems = [] if self._store is None else self._store.problems[self._told :]
        self._told += len(problems)
        return tuple(problems)

    def _read(self, unit: WorkUnit) -> dict[Path, list[tuple[int, int]]]:
        """The bytes that are read for a unit, by file: of files that lie elsewhere, no others are fetched."""
        ranges: dict[Path, list[tuple[int, int]]] = {}
        sources = self._plan.model.sources
        read = [it for rows in unit.ranges for it in read_for(sources[rows.tensor], rows.start, rows.stop)]
        read += [extent for name in unit.hashed for extent in sources[name].extents]
        for extent in read:
            ranges.setdefault(extent.path, []).append((extent.offset, extent.offset + extent.nbytes))
        return ranges

    def _job(self, place: Place, sink: Sink) -> Job:
        """The stream writes rows where they are in the tensor: from where its first row would be."""
        a = place.assignment
        return Job(
            assignment=replace(a, offset=place.offset - place.begin),
            sink=sink,
            importance=self._plan.importance,
            statistics=self._plan.statistics,
        )

    def _hash(self, name: str) -> tuple[str, int]:
        """The hash of all that a tensor is made from, and how many bytes that is."""
        hashes, read = [], 0
        with TensorReader() as reader:
            for leaf in self._plan.model.sources[name].leaves:
                hashes.append(digest := xxhash.xxh3_128())
                read += hash_bytes(leaf, digest, reader, tensor=name)
        return combined(hashes), read


def assignments_by_matrix(plan: Plan) -> dict[str, list[Assignment]]:
    """A tensor's assignment, and behind it those of its companions, by its name."""
    found: dict[str, list[Assignment]] = {}
    for a in sorted(plan.assignments, key=lambda it: it.owner is not None):
        found.setdefault(a.owner or a.tensor.name, []).append(a)
    return found


def places(by_matrix: dict[str, list[Assignment]], unit: WorkUnit) -> Iterator[Place]:
    """Where in a unit's bytes each of its ranges is, and the factors of each."""
    offset = 0
    for it in unit.ranges:
        for a in by_matrix[it.tensor]:
            rows = it
            if a.owner is not None:
                height = max(1, by_matrix[it.tensor][0].tensor.rows)
                rows = replace(it, tensor=a.tensor.name, start=it.start // height, stop=-(-it.stop // height))
            nbytes = a.nbytes if it.whole else (rows.stop - rows.start) * _row_bytes(a)
            yield Place(assignment=a, range=rows, offset=offset, nbytes=nbytes)
            offset += nbytes


def _row_bytes(a: Assignment) -> int:
    """Bytes of a row; of factors, of one of them."""
    if a.owner is not None:
        return a.nbytes // max(1, a.tensor.size)
    return a.nbytes // max(1, a.tensor.rows * a.tensor.experts)


def _made(place: Place, stream: Stream) -> MadeRange:
    a, rows = place.assignment, place.range
    name = a.tensor.name
    return MadeRange(
        tensor=name,
        start=rows.start,
        stop=rows.stop,
        offset=place.offset,
        nbytes=place.nbytes,
        data=stream.written[0][name],
        source="" if a.owner is not None else stream.sources[name],
        lost=stream.nonfinite[0].get(name, 0),
        remarked=stream.remarked[0].get(name, 0),
        remarks=stream.remarks[0].get(name, ()),
        said=() if rows.whole else tuple(sorted(stream.said(a).items())),
    )
