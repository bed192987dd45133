"""CompareLeft: a pass over a tensor that an earlier run finished, which compares its bytes with their hash."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.output.jobs import Encoding
from quantrecipe.output.journal import MadeTensor
from quantrecipe.output.passes import Slot, StoredRows, TensorPass
from quantrecipe.output.row_units import Unit

__all__ = ["CompareLeft"]

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
            row_bytes = encoding.format.spec.row_bytes(unit.tensor.cols)
            data = slot.encoded[begin : begin + unit.rows * row_bytes]
            begin += data.size
            for number, job in enumerate(encoding.jobs):
                room = data if number == 0 else np.empty_like(data)
                place = job.assignment.offset + unit.start * row_bytes
                sound = sound and job.entry is not None and job.entry.part.read(room.data, place)
                sound = sound and (room is data or np.array_equal(room, data))
            found.append(data)
        return found, sound

    def collect(self, unit: Unit, result: tuple[list[_Bytes], bool]) -> None:
        found, sound = result
        self._sound = self._sound and sound
        for digest, data in zip(self._digests, found, strict=True):
            digest.update(data.data)
        self._rows.tell(unit.rows * unit.tensor.cols, sum(data.nbytes for data in found), 0)
