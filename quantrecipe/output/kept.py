"""What an earlier run left of an output: what its journal says is there, and what the part really has.

Entry           a tensor in the journal of an output, and the part with its bytes
rows_left       rows of an encoding that all its parts have, compared with their hash
first_left      its first rows, which are still to be compared (`compare_left.py`)
tensor_left     a whole tensor, which is, too
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.output.journal import Journal
from quantrecipe.output.journal_records import FirstRows, MadeRows, MadeTensor
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.row_units import Unit

if TYPE_CHECKING:
    from quantrecipe.output.jobs import Encoding, Job

__all__ = [
    "Entry",
    "first_left",
    "first_made",
    "made_from",
    "rows_left",
    "rows_made",
    "tensor_left",
]

_Bytes = NDArray[np.uint8]

_SAMPLED, _SAMPLE = 8, 64
"""Of each eighth row of the source so many bytes are compared. Where a file was changed, although its name, size, time
and ends are the same, no row is the same; to hash all bytes once more takes some of the time that is to be saved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One tensor of an output: its number in the journal, and the part that has its bytes."""

    journal: Journal
    number: int
    part: PartFile

    def rows(self, unit: Unit) -> MadeRows | None:
        """What the journal says of these rows."""
        return self.journal.rows.get(self.number, {}).get((unit.start, unit.stop))

    def add_rows(self, unit: Unit, made: MadeRows) -> None:
        """Note that they are in the part."""
        self.journal.add_rows(self.number, unit.start, unit.stop, made)

    def first(self) -> dict[int, FirstRows]:
        """What the journal says of the tensor's first rows, by how many these are."""
        return self.journal.first.get(self.number, {})

    def done(self) -> MadeTensor | None:
        """What the journal says of the whole tensor."""
        return self.journal.done.get(self.number)

    def add_done(self, made: MadeTensor) -> None:
        """Note that all of it is in the part."""
        self.journal.add_done(self.number, made)


def made_from(encoding: Encoding, unit: Unit, stored: _Bytes, times: NDArray[np.float32] | None) -> str:
    """XXH3-64 of what rows are made from, in hex: a sample of the source's, the factor beside them, and their own."""
    sample = stored[::_SAMPLED, :_SAMPLE].tobytes()
    for factors in (times, encoding.factors):  # of which each depends on more than these rows
        if factors is not None:
            sample += factors[unit.expert].tobytes()
    return xxhash.xxh3_64_hexdigest(sample)


def anything_left(encoding: Encoding) -> bool:
    """Whether an earlier run has left some rows of it, as journals say."""
    entries = [job.entry for job in encoding.jobs if job.entry is not None]
    return any(it.number in it.journal.rows or it.number in it.journal.first for it in entries)


def rows_left(encoding: Encoding, unit: Unit, room: _Bytes, source: str) -> MadeRows | None:
    """What is known of rows that all parts have as their journals say: `room` has them then. Else None.

    source: what they are made from now (`made_from`)
    """
    found: MadeRows | None = None
    for job in encoding.jobs:
        made = None if job.entry is None else job.entry.rows(unit)
        if made is None or made != (found or made):
            return None
        found = made
    if found is None or found.source != source:
        return None
    for job in encoding.jobs:
        if job.entry is None:
            return None
        begin = job.assignment.offset + unit.start * room.shape[1]
        if not job.entry.part.read(room.data, begin) or xxhash.xxh3_64_hexdigest(room.data) != found.digest:
            return None
    return found


def compared_left(encoding: Encoding, unit: Unit, room: _Bytes, source: str) -> MadeRows | None:
    """The same of rows that were compared before, among the first ones (`compare_left.CompareFirst`).

    They are read once more if a store gets them, too.
    """
    entry = encoding.jobs[0].entry
    if entry is None:
        return None
    if encoding.addition is not None:
        begin = encoding.jobs[0].assignment.offset + unit.start * room.shape[1]
        if not entry.part.read(room.data, begin):
            return None
    itself = entry.rows(unit)  # a remark is noted with its rows alone, what was lost with all of them
    return MadeRows(digest="", source=source, remark=None if itself is None else itself.remark)


def rows_made(
    encoding: Encoding, unit: Unit, digest: str, source: str, lost: int, remark: tuple[int, str] | None
) -> None:
    """Note that rows were written. digest: XXH3-64 of them; source: what they were made from (`made_from`)."""
    made = MadeRows(digest=digest, source=source, lost=lost, remark=remark)
    for job in encoding.jobs:
        if job.entry is not None:
            job.entry.add_rows(unit, made)


def first_left(encoding: Encoding) -> dict[int, FirstRows]:
    """What is known of an encoding's first rows, by how many these are, where all journals say the same."""
    journals = [{} if job.entry is None else job.entry.first() for job in encoding.jobs]
    return {
        stop: made for stop, made in journals[0].items() if all(it.get(stop) == made for it in journals[1:])
    }


def first_made(encoding: Encoding, made: FirstRows) -> None:
    """Note that the first rows were written."""
    for job in encoding.jobs:
        if job.entry is not None:
            job.entry.journal.add_first(job.entry.number, made)


def tensor_left(encodings: Sequence[Encoding]) -> list[MadeTensor] | None:
    """What is known of each encoding, where all parts have all of them; None where one of them has something to do.

    Factors beside a matrix, which are few, are compared with their hashes at once.
    """
    found: list[MadeTensor] = []
    for encoding in encodings:
        made = {None if job.entry is None else job.entry.done() for job in encoding.jobs}
        first = made.pop() if len(made) == 1 else None
        if first is None or not all(_companion_left(job) for job in encoding.companions):
            return None
        found.append(first)
    return found if len({made.source for made in found}) == 1 else None


def _companion_left(job: Job) -> bool:
    made = None if job.entry is None else job.entry.done()
    if job.entry is None or made is None:
        return False
    room = np.empty(job.assignment.nbytes, np.uint8)
    there = job.entry.part.read(room.data, job.assignment.offset)
    return there and xxhash.xxh3_128_hexdigest(room.data) == made.data
