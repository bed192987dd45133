"""Layout: how the bytes of units lie in a plan's files, which are cut into parts of the same size.

Each byte of a file belongs to its header or to one tensor: what lies between a tensor and the next one belongs to the
tensor before. So a part belongs to the unit that makes all that is in it, whose worker writes or sends it; or several
share it. What a unit has of such a part is an edge, and goes to whoever gathers what they make.

    file      | header | tensor a     | b | c          | d                |
    parts     |   0   |   1   |   2   |   3   |   4   |   5   |   6   | 7 |
    unit 0             |==============|       edges in 0 and 2, and has 1
    unit 1                            |================|   edges in 2 and 4, and has 3

No two machines write to the same part: to one page of a file on a network, they couldn't. And a part of an upload is
sent as a whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from quantrecipe.output.shares.make import Place, assignments_by_matrix, places
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.plan.plan import Plan

__all__ = ["Layout", "PartPlace", "Segment", "UnitLayout"]

PartPlace = tuple[int, int]
"""(number of the file, number of the part in it)"""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Segment:
    """Bytes `begin` to `end` of one of the plan's files."""

    file: int
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, kw_only=True, slots=True)
class _Region:
    """Bytes of a file that are a unit's.

    edge: where they are among the bytes of all edges of the unit; None where whole parts are the unit's alone
    """

    segment: Segment
    edge: int | None


class UnitLayout:
    """Where the bytes of one unit go.

    own:   the parts that are the unit's alone; those that lie one behind the other are one segment
    edges: what it has of others, each within one part
    """

    def __init__(
        self, found: Iterable[tuple[Place, Segment, int]], sizes: list[int], part_bytes: int
    ) -> None:
        """found: each place of the unit, the file's bytes for it, and where it ends with what lies behind it"""
        found = list(found)
        self._offsets = [place.offset for place, _, _ in found]
        self._placed = [segment for _, segment, _ in found]
        spans = sorted(
            Segment(file=it.file, begin=it.begin, end=end) for _, it, end in found if end > it.begin
        )
        self.own: list[Segment] = []
        self.edges: list[Segment] = []
        self._regions: list[_Region] = []
        edge = 0
        for region, is_own in (it for span in _merged(spans) for it in _cut(span, sizes, part_bytes)):
            (self.own if is_own else self.edges).append(region)
            self._regions.append(_Region(segment=region, edge=None if is_own else edge))
            edge += 0 if is_own else region.nbytes
        self.edge_bytes = edge
        self._begins = [(it.segment.file, it.segment.begin) for it in self._regions]

    def placed(self) -> list[Segment]:
        """Of the file's bytes, those that are made: all but what lies between tensors."""
        return [it for it in self._placed if it.nbytes]

    def regions(self, offset: int, nbytes: int) -> Iterator[tuple[Segment, int | None]]:
        """Where bytes of the unit go, one segment after the other, and where those are among the edges' bytes."""
        number = bisect_right(self._offsets, offset) - 1
        placed = self._placed[number]
        begin = placed.begin + offset - self._offsets[number]
        end = begin + nbytes
        at = bisect_right(self._begins, (placed.file, begin)) - 1
        while begin < end:
            region = self._regions[at]
            stop = min(end, region.segment.end)
            edge = None if region.edge is None else region.edge + begin - region.segment.begin
            yield Segment(file=placed.file, begin=begin, end=stop), edge
            begin, at = stop, at + 1


class Layout:
    """A plan's files, in parts of so many bytes; the last one of a file may have fewer.

    headers: the bytes of each file before its first tensor
    """

    def __init__(self, plan: Plan, part_bytes: int) -> None:
        self.part_bytes = part_bytes
        self.sizes = [file.nbytes for file in plan.files]
        self.headers: list[Segment] = []
        self._by_matrix = assignments_by_matrix(plan)
        self._whole: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(plan.files):
            found = sorted(file.assignments, key=lambda it: (it.offset, it.nbytes))
            ends = [*(a.offset for a in found), file.nbytes]
            self.headers.append(Segment(file=number, begin=0, end=ends[0]))
            self._whole |= {a.tensor.name: (number, end) for a, end in zip(found, ends[1:], strict=True)}

    def of(self, unit: WorkUnit) -> UnitLayout:
        """Where a unit's bytes go."""
        return UnitLayout(map(self._found, places(self._by_matrix, unit)), self.sizes, self.part_bytes)

    def parts(self, file: int) -> range:
        """The numbers of a file's parts."""
        return range(-(-self.sizes[file] // self.part_bytes))

    def part(self, file: int, number: int) -> Segment:
        """All bytes of a part."""
        begin = number * self.part_bytes
        return Segment(file=file, begin=begin, end=min(begin + self.part_bytes, self.sizes[file]))

    def place(self, segment: Segment) -> PartPlace:
        """The part in which a segment begins."""
        return segment.file, segment.begin // self.part_bytes

    def by_part(self, span: Segment) -> Iterator[Segment]:
        """A segment, cut where parts begin."""
        return _by_part(span, self.part_bytes)

    def _found(self, place: Place) -> tuple[Place, Segment, int]:
        a = place.assignment
        file, behind = self._whole[a.tensor.name]
        begin = a.offset + place.begin
        end = begin + place.nbytes
        return place, Segment(file=file, begin=begin, end=end), behind if end == a.offset + a.nbytes else end


def _cut(span: Segment, sizes: list[int], part_bytes: int) -> Iterator[tuple[Segment, bool]]:
    """(a part of it, whether it is whole parts): an edge or none, whole parts or none, an edge or none."""
    first = -(-span.begin // part_bytes) * part_bytes
    last = span.end if span.end == sizes[span.file] else span.end // part_bytes * part_bytes
    if first >= last:
        yield from ((it, False) for it in _by_part(span, part_bytes))
        return
    for begin, end, is_own in ((span.begin, first, False), (first, last, True), (last, span.end, False)):
        if begin < end:
            yield Segment(file=span.file, begin=begin, end=end), is_own


def _by_part(span: Segment, part_bytes: int) -> Iterator[Segment]:
    ends = range((span.begin // part_bytes + 1) * part_bytes, span.end, part_bytes)
    for begin, end in pairwise([span.begin, *ends, span.end]):
        yield Segment(file=span.file, begin=begin, end=end)


def _merged(spans: Iterable[Segment]) -> Iterator[Segment]:
    """What lies one behind the other is one segment."""
    last: Segment | None = None
    for span in spans:
        if last is not None and (last.file, last.end) == (span.file, span.begin):
            last = Segment(file=last.file, begin=last.begin, end=span.end)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
