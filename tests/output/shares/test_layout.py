"""Each byte of a file is a header's, a unit's alone, or one of several units' edges: once, and in one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shared_work import KINDS, SMALL, plan_of_kind

from quantrecipe.output.shares.layout import Layout, Segment
from quantrecipe.output.shares.make import assignments_by_matrix, places
from quantrecipe.output.shares.units import RowRange, WorkUnit, cut
from quantrecipe.plan.plan import Plan
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


@pytest.fixture(scope="module")
def a_plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of_kind("factors", tmp_path_factory.mktemp("model"), REGISTRY)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_files_units_and_parts(a_plan: Plan, data: st.DataObject) -> None:
    """Headers and gaps of any size, tensors of zero bytes, files of none, units of any tensors, parts of any size."""
    owned = {a.owner for a in a_plan.assignments if a.owner is not None}
    alone = [a for a in a_plan.assignments if a.owner is None and a.tensor.name not in owned][:8]
    count = data.draw(st.integers(1, 3))
    byte = st.integers(0, 40)
    files, made = [], dict[str, bytes]()
    of_file = {a.tensor.name: data.draw(st.integers(0, count - 1)) for a in alone}
    for number in range(count):
        at = header = data.draw(st.integers(17, 90))
        found = []
        for a in data.draw(st.permutations([a for a in alone if of_file[a.tensor.name] == number])):
            nbytes = data.draw(byte)
            found.append(replace(a, offset=at, nbytes=nbytes))
            made[a.tensor.name] = bytes([1 + len(made)]) * nbytes
            at += nbytes + data.draw(byte)  # what lies between
        ordered = data.draw(st.permutations(found))
        files.append(replace(a_plan.files[0], assignments=tuple(ordered), header=header, nbytes=at))
    plan = replace(a_plan, files=tuple(files))
    layout = Layout(plan, data.draw(st.integers(1, 70)))
    contents = [bytearray(file.nbytes) for file in files]
    counts = [bytearray(file.nbytes) for file in files]
    groups: dict[int, list[str]] = {}
    for a in data.draw(st.permutations(alone)):
        groups.setdefault(data.draw(st.integers(0, 3)), []).append(a.tensor.name)
    writers: dict[tuple[int, int], set[int]] = {}

    def count_bytes(segment: Segment, whose: int) -> None:
        for it in range(segment.begin, segment.end):
            counts[segment.file][it] += 1
        for piece in layout.by_part(segment):
            writers.setdefault(layout.place(piece), set()).add(whose)

    for header_bytes in layout.headers:
        count_bytes(header_bytes, -1)
    for number, names in enumerate(groups.values()):
        rows = {a.tensor.name: a.tensor.rows * a.tensor.experts for a in alone}
        unit = WorkUnit(
            number=number, ranges=tuple(RowRange(tensor=it, start=0, stop=rows[it]) for it in names)
        )
        found = layout.of(unit)
        for segment in (*found.own, *found.edges):
            count_bytes(segment, number)
        edges, offset = bytearray(found.edge_bytes), 0
        for name in names:
            rest = memoryview(made[name])
            while rest:
                step = data.draw(st.integers(1, len(rest)))
                for segment, edge in found.regions(offset, step):
                    piece, rest = rest[: segment.nbytes], rest[segment.nbytes :]
                    if edge is None:
                        contents[segment.file][segment.begin : segment.end] = piece
                    else:
                        edges[edge : edge + segment.nbytes] = piece
                offset += step
        at = 0
        for segment in found.edges:
            contents[segment.file][segment.begin : segment.end] = edges[at : at + segment.nbytes]
            at += segment.nbytes
        for segment in found.own:
            for piece in layout.by_part(segment):
                assert layout.part(*layout.place(piece)) == piece
    assert all(set(it) <= {1} for it in counts)
    for file, content in zip(files, contents, strict=True):
        expected = bytearray(file.nbytes)
        for a in file.assignments:
            expected[a.offset : a.offset + a.nbytes] = made[a.tensor.name]
        assert content == expected
    own = {
        layout.place(piece)
        for number, names in enumerate(groups.values())
        for segment in layout.of(
            WorkUnit(number=number, ranges=tuple(RowRange(tensor=it, start=0, stop=1) for it in names))
        ).own
        for piece in layout.by_part(segment)
    }
    assert all(len(writers[place]) == 1 for place in own)
