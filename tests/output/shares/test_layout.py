"""Each byte of a file is a header's, a unit's alone, or one of several units' edges: once, and in one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.shared_work import KINDS, SMALL, plan_of_kind

from quantrecipe.output.shares.layout import Layout, Segment
from quantrecipe.output.shares.make import assignments_by_matrix, places
from quantrecipe.output.shares.units import cut
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)


@pytest.mark.parametrize("part_bytes", [5_000, 30_000, 250_000, 1 << 40])
@pytest.mark.parametrize("kind", KINDS)
def test_each_byte_is_somebody_s(kind: str, part_bytes: int, tmp_path: Path) -> None:
    plan = plan_of_kind(kind, tmp_path, REGISTRY)
    layout = Layout(plan, part_bytes)
    counts = [bytearray(file.nbytes) for file in plan.files]
    whose: dict[tuple[int, int], set[int]] = {}

    def add(segment: Segment) -> None:
        assert segment.nbytes > 0
        found = counts[segment.file][segment.begin : segment.end]
        assert not any(found)
        counts[segment.file][segment.begin : segment.end] = b"\1" * segment.nbytes

    for header in layout.headers:
        add(header)
        for piece in layout.by_part(header):
            whose.setdefault(layout.place(piece), set()).add(-1)
    own: list[tuple[int, int]] = []
    for unit in cut(plan, SMALL, SMALL):
        found = layout.of(unit)
        assert sum(it.nbytes for it in found.edges) == found.edge_bytes
        for segment in found.own:
            add(segment)
            assert segment.begin % part_bytes == 0
            assert segment.end % part_bytes == 0 or segment.end == plan.files[segment.file].nbytes
            own += [layout.place(piece) for piece in layout.by_part(segment)]
        for segment in found.edges:
            add(segment)
            assert segment.begin // part_bytes == (segment.end - 1) // part_bytes
            whose.setdefault(layout.place(segment), set()).add(unit.number)
    assert all(all(count) for count in counts)
    assert len(set(own)) == len(own)
    assert not set(own) & set(whose)
    # A part that is one unit's as a whole isn't counted among the shared ones.
    assert all(len(units) > 1 or units == {-1} for units in whose.values())
    assert {*own, *whose} == {(file, it) for file in range(len(plan.files)) for it in layout.parts(file)}


@pytest.mark.parametrize("kind", ["dense", "shards", "factors of experts"])
def test_where_bytes_of_a_unit_go(kind: str, tmp_path: Path) -> None:
    """Wherever a piece of them begins and ends: to their places in the file, or among the edges."""
    plan = plan_of_kind(kind, tmp_path, REGISTRY)
    layout, by_matrix = Layout(plan, 20_000), assignments_by_matrix(plan)
    file_of = {a.tensor.name: number for number, file in enumerate(plan.files) for a in file.assignments}
    for unit in cut(plan, SMALL, SMALL):
        found = layout.of(unit)
        edges = {
            (segment.file, segment.begin + at): before + at
            for before, segment in zip(starts(found.edges), found.edges, strict=True)
            for at in range(segment.nbytes)
        }
        for place in places(by_matrix, unit):
            begin = place.assignment.offset + place.begin
            for step in (1, 7_001):
                for offset in range(0, place.nbytes, max(1, place.nbytes // 3)):
                    nbytes = min(step, place.nbytes - offset)
                    at = begin + offset
                    for segment, edge in found.regions(place.offset + offset, nbytes):
                        assert segment.file == file_of[place.assignment.tensor.name]
                        assert segment.begin == at
                        assert edge == edges.get((segment.file, at))
                        assert (edge is None) == any(
                            it.file == segment.file and it.begin <= at and segment.end <= it.end
                            for it in found.own
                        )
                        at = segment.end
                    assert at == begin + offset + nbytes


def starts(segments: list[Segment]) -> list[int]:
    found = [0]
    for segment in segments:
        found.append(found[-1] + segment.nbytes)
    return found[:-1]


def test_a_part_of_a_file(tmp_path: Path) -> None:
    plan = plan_of_kind("shards", tmp_path, REGISTRY)
    layout = Layout(plan, 100_000)
    for file, planned in enumerate(plan.files):
        parts = [layout.part(file, number) for number in layout.parts(file)]
        assert [it.begin for it in parts] == [number * 100_000 for number in range(len(parts))]
        assert [it.nbytes for it in parts[:-1]] == [100_000] * (len(parts) - 1)
        assert parts[-1].end == planned.nbytes
        assert list(layout.by_part(Segment(file=file, begin=0, end=planned.nbytes))) == parts
