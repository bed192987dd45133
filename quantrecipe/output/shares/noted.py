"""Noted: the units of an executor's workers in the journal of the output, so that the same command goes on.

A whole tensor is noted as by a run without workers, so either goes on with what the other has left. Of a tensor that
was cut, each unit's rows are a record of their own, and so is the hash of its source. How the work was cut is noted,
too, since for another number of workers it would be cut in another way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import xxhash

from quantrecipe.core.processors import usable_processors
from quantrecipe.output.journal import Journal
from quantrecipe.output.journal_records import MadeShare, MadeTensor
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.shares.make import MadeRange, MadeUnit, Place, assignments_by_matrix, places
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.plan.plan import Plan

__all__ = ["LeftUnits", "Noted", "digest_in"]

_CHUNK = 4 << 20  # bytes that are hashed in one go


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftUnits:
    """What an earlier run has left.

    made:      by number: the units whose bytes are in the parts
    differing: names of tensors whose bytes aren't what the journal says
    """

    made: Mapping[int, MadeUnit]
    differing: tuple[str, ...]


class Noted:
    """Units of a plan, and the journal of its output."""

    def __init__(self, plan: Plan, journal: Journal, part_of: Mapping[str, PartFile]) -> None:
        """part_of: the part that has a tensor, by its name."""
        self._journal, self._part_of = journal, part_of
        self._by_matrix = assignments_by_matrix(plan)
        self._numbers = {a.tensor.name: number for number, a in enumerate(plan.assignments)}

    def note(self, unit: WorkUnit, made: MadeUnit) -> None:
        """Note that a unit's bytes are in the parts. OutputError where that can't be written."""
        owners = {it.tensor: it for it in made.ranges}
        for place, it in zip(places(self._by_matrix, unit), made.ranges, strict=True):
            number, owner = self._numbers[it.tensor], place.assignment.owner
            if place.range.whole:
                about = it if owner is None else owners[owner]
                tensor = MadeTensor(
                    source=about.source,
                    data=it.data,
                    lost=about.lost,
                    remarked=about.remarked,
                    remarks=about.remarks,
                )
                self._journal.add_done(number, tensor)
            else:
                share = MadeShare(data=it.data, lost=it.lost, said=it.said)
                self._journal.add_share(number, it.start, it.stop, share)
        for name, digest in made.sources:
            self._journal.add_source(self._numbers[name], digest)

    def left(self, units: Sequence[WorkUnit]) -> LeftUnits:
        """The units that are noted, and whose bytes are still what was noted."""
        noted = [(unit, made) for unit in units if (made := self._made(unit)) is not None]
        found: dict[int, MadeUnit] = {}
        differing: dict[str, None] = {}
        with ThreadPoolExecutor(usable_processors(), "compare") as pool:
            for (unit, made), other in zip(
                noted, pool.map(self._other, *zip(*noted, strict=True)), strict=True
            ):
                if other:
                    differing[other] = None
                else:
                    found[unit.number] = made
        return LeftUnits(made=found, differing=tuple(differing))

    def _other(self, unit: WorkUnit, made: MadeUnit) -> str:
        """The first tensor of which a part has other bytes than the unit; "" where there is none."""
        for place, it in zip(places(self._by_matrix, unit), made.ranges, strict=True):
            begin = place.assignment.offset + place.begin
            if digest_in(self._part_of[it.tensor], begin, place.nbytes) != it.data:
                return it.tensor
        return ""

    def _made(self, unit: WorkUnit) -> MadeUnit | None:
        """What the journal says of a unit; None where it doesn't say everything."""
        ranges = [self._range(place) for place in places(self._by_matrix, unit)]
        known = [it for it in ranges if it is not None]
        sources = [(name, self._journal.sources.get(self._numbers[name], "")) for name in unit.hashed]
        if len(known) < len(ranges) or not all(digest for _, digest in sources):
            return None
        nbytes = sum(it.nbytes for it in known)
        return MadeUnit(number=unit.number, nbytes=nbytes, ranges=tuple(known), sources=tuple(sources))

    def _range(self, place: Place) -> MadeRange | None:
        rows, number = place.range, self._numbers[place.range.tensor]
        said: tuple[tuple[int, str], ...] = ()
        if rows.whole:
            done = self._journal.done.get(number)
            if done is None:
                return None
            data, source, lost = done.data, done.source, done.lost
            remarked, remarks = done.remarked, done.remarks
        else:
            share = self._journal.shares.get(number, {}).get((rows.start, rows.stop))
            if share is None:
                return None
            data, source, lost = share.data, "", share.lost
            said = share.said
            remarked, remarks = len(said), tuple(dict.fromkeys(text for _, text in said))
        if place.assignment.owner is not None:  # what is said of a matrix isn't said of its factors again
            source, lost, remarked, remarks = "", 0, 0, ()
        return MadeRange(
            tensor=rows.tensor,
            start=rows.start,
            stop=rows.stop,
            offset=place.offset,
            nbytes=place.nbytes,
            data=data,
            source=source,
            lost=lost,
            remarked=remarked,
            remarks=remarks,
            said=said,
        )


def digest_in(part: PartFile, begin: int, nbytes: int) -> str:
    """XXH3-128, in hex, of bytes of a part; "" where it can't be read."""
    digest, buffer = xxhash.xxh3_128(), memoryview(bytearray(min(_CHUNK, nbytes)))
    for start in range(0, nbytes, _CHUNK):
        piece = buffer[: min(_CHUNK, nbytes - start)]
        if not part.read(piece, begin + start):
            return ""
        digest.update(piece)
    return digest.hexdigest()
