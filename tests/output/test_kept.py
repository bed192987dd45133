"""What is said to be there is compared with what is there, in every part that should have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from numpy.typing import NDArray
from support.formats import format_type

from quantrecipe.output.jobs import Encoding, Job
from quantrecipe.output.journal import Journal, journal_path
from quantrecipe.output.journal_records import MadeRows, MadeTensor
from quantrecipe.output.kept import Entry, made_from, rows_left, rows_made, tensor_left
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.row_units import Unit
from quantrecipe.output.run_key import difference
from quantrecipe.plan.plan import Assignment
from quantrecipe.tensor import TensorInfo

TENSOR = TensorInfo(name="blk.0.attn_q.weight", shape=(8, 32), dtype="BF16", layer=0, role="attn_q")
UNIT = Unit(tensor=TENSOR, expert=0, start=2, stop=5)
DATA = np.arange(3 * 34, dtype=np.uint8).reshape(3, 34)  # Q8_0: 34 bytes for 32 weights
SOURCE = np.arange(3 * 64, dtype=np.uint8).reshape(3, 64)
OFFSET = 64


@dataclass
class Two:
    """Two outputs that want the same encoding."""

    encoding: Encoding
    parts: list[PartFile]
    journals: list[Journal]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    parts = [PartFile(tmp_path / name, 1000) for name in "ab"]
    journals = [Journal(journal_path(part.path), {}, difference) for part in parts]
    a = Assignment(
        tensor=TENSOR, format=format_type("Q8_0")(), nbytes=8 * 34, offset=OFFSET, because="", encoding="e"
    )
    jobs = tuple(
        Job(assignment=a, sink=part, output=i, entry=Entry(journal=journals[i], number=7, part=part))
        for i, part in enumerate(parts)
    )
    yield Two(Encoding(jobs=jobs, importance=None, old=None), parts, journals)
    for journal in journals:
        journal.close()
    for part in parts:
        part.discard()


def again(two: Two) -> Two:
    """As the next run finds it."""
    jobs = []
    for i, job in enumerate(two.encoding.jobs):
        two.journals[i].close()
        two.journals[i] = Journal(two.journals[i].path, {}, difference)
        jobs.append(replaced(job, Entry(journal=two.journals[i], number=7, part=two.parts[i])))
    return Two(Encoding(jobs=tuple(jobs), importance=None, old=None), two.parts, two.journals)


def replaced(job: Job, entry: Entry | None) -> Job:
    return Job(assignment=job.assignment, sink=job.sink, output=job.output, entry=entry)


def from_(two: Two) -> str:
    return made_from(two.encoding, UNIT, SOURCE, None)


def write(two: Two) -> None:
    for part in two.parts:
        part.write(DATA.data, OFFSET + 2 * 34)
    rows_made(two.encoding, UNIT, _hash(DATA), from_(two), 1, (0, "damped"))


def test_rows_that_all_have(two: Two) -> None:
    write(two)
    room = np.zeros_like(DATA)
    found = rows_left(again(two).encoding, UNIT, room, from_(two))
    assert found is not None
    assert (found.lost, found.remark) == (1, (0, "damped"))
    assert (room == DATA).all()


def test_rows_that_were_noted_for_others(two: Two) -> None:
    write(two)
    other = Unit(tensor=TENSOR, expert=0, start=2, stop=6)
    assert rows_left(again(two).encoding, other, np.zeros((4, 34), np.uint8), from_(two)) is None


@pytest.mark.parametrize("which", [0, 1])
def test_rows_that_one_part_has_otherwise(two: Two, which: int) -> None:
    write(two)
    two.parts[which].write(memoryview(b"\x77"), OFFSET + 2 * 34 + 50)
    assert rows_left(again(two).encoding, UNIT, np.zeros_like(DATA), from_(two)) is None


@pytest.mark.parametrize("which", [0, 1])
def test_rows_that_one_journal_lacks(two: Two, which: int) -> None:
    write(two)
    two.journals[which].restart()
    assert rows_left(again(two).encoding, UNIT, np.zeros_like(DATA), from_(two)) is None


def test_rows_of_which_the_source_is_another_by_now(two: Two) -> None:
    write(two)
    other = SOURCE.copy()
    other[0, 63] ^= 1
    found = made_from(two.encoding, UNIT, other, None)
    assert rows_left(again(two).encoding, UNIT, np.zeros_like(DATA), found) is None


def test_factors_are_a_part_of_what_rows_are_made_from(two: Two) -> None:
    """They depend on rows that are far away, so that these may be the same, and their bytes others."""
    factors = np.array([1.5], np.float32)
    plain, own = two.encoding, replace(two.encoding, factors=factors)
    found = {
        made_from(plain, UNIT, SOURCE, None),
        made_from(plain, UNIT, SOURCE, factors),
        made_from(plain, UNIT, SOURCE, factors * 2),
        made_from(own, UNIT, SOURCE, factors),
        made_from(replace(own, factors=factors * 2), UNIT, SOURCE, factors),
    }
    assert len(found) == 5


def test_rows_that_were_noted_in_two_ways(two: Two) -> None:
    write(two)
    two.journals[1].add_rows(7, 2, 5, MadeRows(digest=_hash(DATA), source=from_(two), lost=9))
    assert rows_left(again(two).encoding, UNIT, np.zeros_like(DATA), from_(two)) is None


def test_rows_of_an_output_without_a_journal(two: Two) -> None:
    write(two)
    found = again(two)
    jobs = (found.encoding.jobs[0], replaced(found.encoding.jobs[1], None))
    encoding = Encoding(jobs=jobs, importance=None, old=None)
    assert rows_left(encoding, UNIT, np.zeros_like(DATA), from_(two)) is None


def test_a_part_that_is_too_short(two: Two) -> None:
    write(two)
    two.parts[0].part.write_bytes(b"short")
    assert rows_left(again(two).encoding, UNIT, np.zeros_like(DATA), from_(two)) is None


def _hash(data: NDArray[np.uint8]) -> str:
    return xxhash.xxh3_64_hexdigest(data.data)


class TestATensor:
    MADE = MadeTensor(source="s", data="d")

    def note(self, two: Two, *made: Any) -> None:
        for job, it in zip(two.encoding.jobs, made, strict=True):
            if it is not None and job.entry is not None:
                job.entry.add_done(it)

    def test_that_all_have(self, two: Two) -> None:
        self.note(two, self.MADE, self.MADE)
        assert tensor_left([again(two).encoding]) == [self.MADE]

    def test_that_one_lacks(self, two: Two) -> None:
        self.note(two, self.MADE, None)
        assert tensor_left([again(two).encoding]) is None

    def test_that_they_have_otherwise(self, two: Two) -> None:
        self.note(two, self.MADE, MadeTensor(source="s", data="other"))
        assert tensor_left([again(two).encoding]) is None

    @pytest.mark.parametrize("sound", [True, False])
    def test_whose_factors_are_looked_at(self, two: Two, sound: bool) -> None:
        self.note(two, self.MADE, self.MADE)
        factors = np.array([1.5, 2.5], np.float32)
        a = Assignment(
            tensor=TensorInfo(name="blk.0.attn_q.scale", shape=(2,), dtype="F32", layer=0, role="attn_q"),
            format=format_type("F32")(),
            nbytes=8,
            offset=800,
            because="",
        )
        companions = []
        for i, part in enumerate(two.parts):
            part.write(factors.data, 800)
            two.journals[i].add_done(
                8, MadeTensor(source="s", data=xxhash.xxh3_128_hexdigest(factors.tobytes()))
            )
        if not sound:
            two.parts[1].write(memoryview(b"\1"), 803)
        found = again(two)
        companions = [
            Job(
                assignment=a, sink=part, output=i, entry=Entry(journal=found.journals[i], number=8, part=part)
            )
            for i, part in enumerate(found.parts)
        ]
        encoding = Encoding(jobs=found.encoding.jobs, importance=None, old=None, companions=tuple(companions))
        assert (tensor_left([encoding]) is not None) is sound
