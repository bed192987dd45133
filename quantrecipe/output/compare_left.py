"""Passes that compare what an earlier run left with its hashes.

CompareLeft    a tensor that it finished
CompareFirst   the first rows of one that it didn't
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.output.first_rows import FirstCollected
from quantrecipe.output.jobs import Encoding
from quantrecipe.output.journal_records import MadeTensor
from quantrecipe.output.kept import first_left, made_from
from quantrecipe.output.passes import Slot, StoredRows, TensorPass
from quantrecipe.output.pipeline import Pass
from quantrecipe.output.row_units import Unit

__all__ = ["CompareFirst", "CompareLeft"]

_Bytes = NDArray[np.uint8]


class CompareLeft(TensorPass[tuple[list[_Bytes], bool]]):
    """Reads the parts, and nothing of the model. `is_what_was_noted` is known when it has ended."""

    def __init__(self, rows: StoredRows, encodings: Sequence[Encoding], made: Sequence[MadeTensor]) -> None:
        """made: what the journals say of each encoding."""
        super().__init__(rows)
        self._encodings, self._made = encodings, made
        self._digests = [xxhash.xxh3_128() for _ in encodings]
        self._sound = True

    @property
    def is_what_was_noted(self) -> bool:
        """False where a part has other bytes than its journal says."""
        pairs = zip(self._digests, self._made, strict=True)
        return self._sound and all(digest.hexdigest() == made.data for digest, made in pairs)

    def work(self, unit: Unit, slot: Slot) -> tuple[list[_Bytes], bool]:
        """(the bytes of each encoding, whether all parts have them)."""
        found: list[_Bytes] = []
        sound, begin = True, 0
        for encoding in self._encodings:
            data, same = _read(encoding, unit, slot.encoded[begin:])
            begin += data.size
            sound = sound and same
            found.append(data)
        return found, sound

    def collect(self, unit: Unit, result: tuple[list[_Bytes], bool]) -> None:
        found, sound = result
        self._sound = self._sound and sound
        for digest, data in zip(self._digests, found, strict=True):
            digest.update(data.data)
        self._rows.tell(unit.rows * unit.tensor.cols, sum(data.nbytes for data in found), 0)


@dataclass(frozen=True, slots=True)
class _Compared:
    """Of a unit: for each encoding its bytes, None where not all parts have them, and what they are made from now."""

    data: list[_Bytes | None]
    origins: list[str]
    read: int


class CompareFirst(TensorPass[_Compared]):
    """Reads the parts, and the model's rows, of which a sample is compared, too.

    found: by the digest of an encoding: its first rows that are what was noted, when the pass has ended
    """

    def __init__(self, rows: StoredRows, encodings: Sequence[Encoding]) -> None:
        super().__init__(rows)
        self.found: dict[str, FirstCollected] = {}
        noted = [(encoding, first_left(encoding)) for encoding in encodings]
        self._noted = [(encoding, made) for encoding, made in noted if made]
        self._collected: list[FirstCollected | None] = [FirstCollected() for _ in self._noted]

    def over(self, units: Iterable[Unit]) -> Pass[Slot]:
        """The pass over those of the units of which something was noted."""
        last = max((stop for _, made in self._noted for stop in made), default=0)
        return super().over(takewhile(lambda unit: unit.stop <= last, units))

    def work(self, unit: Unit, slot: Slot) -> _Compared:
        stored, reading = self._rows.read(unit, slot)
        found: list[_Bytes | None] = []
        origins, begin = [], 0
        for encoding, _ in self._noted:
            data, same = _read(encoding, unit, slot.encoded[begin:])
            begin += data.size
            found.append(data if same else None)
            origins.append(made_from(encoding, unit, stored, self._rows.times))
        return _Compared(found, origins, reading.nbytes + begin)

    def collect(self, unit: Unit, result: _Compared) -> None:
        for i, (encoding, noted) in enumerate(self._noted):
            collected, data = self._collected[i], result.data[i]
            if collected is None or data is None:
                self._collected[i] = None  # what comes behind can't be compared
                continue
            collected.add(data, result.origins[i])
            made = noted.get(unit.stop)
            if made is not None and collected.made(unit.stop) == replace(made, lost=0):
                found = collected.copy(begin=unit.stop)
                found.lost = made.lost
                self.found[encoding.digest] = found
        self._rows.tell(0, result.read, 0)


def _read(encoding: Encoding, unit: Unit, room: _Bytes) -> tuple[_Bytes, bool]:
    """The bytes of a unit's rows, at the beginning of the room, and whether all parts have them."""
    row_bytes = encoding.format.spec.row_bytes(unit.tensor.cols)
    data, sound = room[: unit.rows * row_bytes], True
    for number, job in enumerate(encoding.jobs):
        other = data if number == 0 else np.empty_like(data)
        place = job.assignment.offset + unit.start * row_bytes
        sound = sound and job.entry is not None and job.entry.part.read(other.data, place)
        sound = sound and (other is data or np.array_equal(other, data))
    return data, sound
