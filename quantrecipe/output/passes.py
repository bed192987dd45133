"""Passes over the rows of one tensor: to find its peaks, to encode it, to copy it from an older file.

Each has `work`, which any thread does on any unit, and `collect`, which sees the units in order; `over` puts both into
a Pass of the pipeline. What they come to is known when the pass has ended.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.core.finite import all_sound
from quantrecipe.model.source.digest import Digest
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import Stored, TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output import first_rows
from quantrecipe.output.first_rows import FirstCollected
from quantrecipe.output.jobs import Encoding
from quantrecipe.output.journal_records import MadeRows
from quantrecipe.output.kept import anything_left, compared_left, made_from, rows_left, rows_made
from quantrecipe.output.pipeline import Pass
from quantrecipe.output.preparations import Preparations
from quantrecipe.output.row_units import Unit, parts
from quantrecipe.output.transform import Handling, Rows
from quantrecipe.tensor import TensorInfo

__all__ = ["CopyOld", "Encode", "FindPeaks", "Slot", "StoredRows", "TensorPass"]

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]
R = TypeVar("R")
_NO_BUFFER = np.empty(0, np.float32)
_clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Slot:
    """Buffers of one unit, flat, large enough for any: stored bytes, and what all encodings make of them."""

    raw: _Bytes
    encoded: _Bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRows:
    """A tensor's rows in the model, and what it takes to read them.

    format: of the rows that the source gives
    group:  rows that stay together in a part of a unit
    floats: buffers for the weights of a part, one for each thread
    times:  float32 (experts,), what the weights of each matrix are multiplied by when they are decoded; None for 1
    tell:   (weights, bytes read, bytes written): so much is done
    part:   weights that are float32 at the same time; None: as many as stay in a cache
    prepared: what encoders know of inputs
    """

    tensor: TensorInfo
    source: TensorSource
    format: QuantFormat
    group: int
    reader: TensorReader
    floats: SimpleQueue[_Floats]
    nan: Handling
    times: _Floats | None = None
    tell: Callable[[int, int, int], None]
    part: int | None = None
    prepared: Preparations = field(default_factory=lambda: Preparations(1))

    def read(self, unit: Unit, slot: Slot) -> tuple[_Bytes, Reading]:
        """uint8 (rows, row bytes) of the type that the source gives; and what was read for them, in the slot."""
        reading = Reading(self.reader, tensor=self.tensor.name, room=slot.raw)
        return self.source.read(unit.start, unit.stop, reading), reading

    @property
    def as_stored(self) -> bool:
        """True if the rows are the stored bytes."""
        return isinstance(self.source, Stored)

    def rows(self, unit: Unit, raw: _Bytes, floats: _Floats) -> Rows:
        """Rows of a unit, or of a part of it."""
        times = None if self.times is None else self.times[unit.expert]
        return Rows(unit, raw, self.format, floats, nan=self.nan, times=times)


class TensorPass(ABC, Generic[R]):
    """A pass over a tensor's units, each of which comes to an R."""

    def __init__(self, rows: StoredRows) -> None:
        self._rows = rows

    def over(self, units: Iterable[Unit]) -> Pass[Slot]:
        """The pass over these units."""
        return Pass(units, self.work, self.collect)

    @abstractmethod
    def work(self, unit: Unit, slot: Slot) -> R: ...

    @abstractmethod
    def collect(self, unit: Unit, result: R) -> None: ...

    def _each_part(self, unit: Unit, stored: _Bytes, do: Callable[[Rows, slice], None]) -> None:
        """Call `do` with parts of the unit that stay in a cache as float32, and with their places among its rows."""
        floats = self._rows.floats.get()
        try:
            group, size = self._rows.group, self._rows.part
            for part in parts(unit, group) if size is None else parts(unit, group, size):
                place = slice(part.start - unit.start, part.stop - unit.start)
                do(self._rows.rows(part, stored[place], floats), place)
        finally:
            self._rows.floats.put(floats)


class FindPeaks(TensorPass[tuple[float, int]]):
    """Finds the largest magnitude of each expert: float32 (experts,) in `found`."""

    def __init__(self, rows: StoredRows) -> None:
        super().__init__(rows)
        self.found = np.zeros(rows.tensor.experts, np.float32)

    def work(self, unit: Unit, slot: Slot) -> tuple[float, int]:
        """(the largest magnitude, bytes read)."""
        raw, reading = self._rows.read(unit, slot)
        found: list[float] = []
        self._each_part(unit, raw, lambda rows, _: found.append(rows.peak()))
        return max(found), reading.nbytes

    def collect(self, unit: Unit, result: tuple[float, int]) -> None:
        peak, read = result
        self.found[unit.expert] = max(self.found[unit.expert], np.float32(peak))
        self._rows.tell(0, read, 0)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What a unit becomes.

    reading: what was read of the source
    data: for each encoding, its bytes
    lost: for each encoding, how many weights lost a value
    left: for each encoding, whether an earlier run had left the bytes
    origins: for each encoding, what its rows are made from; "" where nobody notes it
    unnoted: for each encoding, the seconds of a unit that is to be noted with others; 0 where it is noted
    rows: what was read, as the source gives it, where somebody wants its hash
    """

    reading: Reading
    data: list[_Bytes]
    lost: list[int]
    left: list[bool]
    origins: list[str]
    unnoted: list[float]
    rows: _Bytes | None


class Encode(TensorPass[_Encoded]):
    """Encodes the tensor in any number of ways, and has it written.

    lost: for each encoding, how many weights lost a value that isn't finite
    left: for each encoding, how many weights' bytes an earlier run had left
    """

    def __init__(
        self,
        rows: StoredRows,
        encodings: Sequence[Encoding],
        *,
        first: Mapping[str, FirstCollected] | None = None,
        again: bool = False,
        check: bool = True,
        hash_rows: bool = False,
        hash_source: bool = True,
    ) -> None:
        """again: the weights have been counted before.

        first:     by the digest of encodings: the first rows that an earlier run has left of them
        check:     look at the weights where there is no encoding: what is copied from an older file is held to the same
        hash_rows: `rows_digest` is wanted
        hash_source: `source` is wanted, which takes all rows of the tensor; else it is ""
        """
        super().__init__(rows)
        self.encodings = encodings
        self._collected = [
            first[it.digest] if first and it.digest in first else FirstCollected() for it in encodings
        ]
        self._anything_left = any(map(anything_left, encodings))
        self.lost = [it.lost for it in self._collected]
        self.left = [0] * len(encodings)
        self._again, self._check = again, check
        self._rows_digest = xxhash.xxh3_128() if hash_rows and not rows.as_stored else None
        self._digest = Digest(rows.source) if hash_source else None
        self._source = ""

    @property
    def source(self) -> str:
        """The hash of what is stored, when the pass has ended. What wasn't read in order is read again."""
        if self._digest is not None and not self._source:
            read = self._digest.finish(self._rows.reader, tensor=self._rows.tensor.name)
            if read:
                self._rows.tell(0, read, 0)
            self._source = self._digest.hexdigest()
        return self._source

    @property
    def rows_digest(self) -> str:
        """XXH3-128 of the rows as the source gives them, in hex, when the pass has ended."""
        return self.source if self._rows_digest is None else self._rows_digest.hexdigest()

    @property
    def written(self) -> list[str]:
        """The same of what was written, for each encoding."""
        return [
            self.source if self._is_source(encoding) else collected.digest
            for encoding, collected in zip(self.encodings, self._collected, strict=True)
        ]

    def work(self, unit: Unit, slot: Slot) -> _Encoded:
        """Read, encode and write the unit."""
        start = _clock()
        stored, reading = self._rows.read(unit, slot)
        data = self._room(unit, stored, slot)
        lost = [0] * len(data)
        origins = [self._made_from(encoding, unit, stored) for encoding in self.encodings]
        left = [
            self._left(i, unit, room, origin)
            for i, (room, origin) in enumerate(zip(data, origins, strict=True))
        ]
        made = [i for i, encoding in enumerate(self.encodings) if not encoding.copied and left[i] is None]

        def encode(rows: Rows, place: slice) -> None:
            for i in made:
                encoding = self.encodings[i]
                first = encoding.jobs[0]
                lost[i] += rows.encode(
                    encoding.format,
                    None if encoding.importance is None else encoding.importance[unit.expert],
                    data[i][place],
                    factor=None if encoding.factors is None else encoding.factors[unit.expert],
                    make=self._rows.prepared.make(first.assignment, first.statistics, unit.expert),
                )

        if any(encoding.copied for encoding in self.encodings):
            self._rows.rows(unit, stored, _NO_BUFFER).check_source()
        if made:
            self._each_part(unit, stored, encode)
        elif self._check and not self.encodings and self._rows.format.spec.codec:
            self._each_part(unit, stored, lambda rows, _: rows.check())
        seconds = _clock() - start
        unnoted = [0.0] * len(data)
        for i, (encoding, encoded) in enumerate(zip(self.encodings, data, strict=True)):
            if encoding.addition is not None:
                encoding.addition.write(encoded.data, unit.start * encoded.shape[1])
            if (there := left[i]) is not None:
                lost[i] = there.lost
                continue
            row_bytes, first, remark = encoded.shape[1], encoding.jobs[0], None
            if origins[i]:
                remark = self._rows.prepared.remark(first.assignment, first.statistics, unit.expert)
                if seconds < first_rows.NOTE_SECONDS and remark is None:
                    unnoted[i] = seconds
            # Before it is written, since it is in a cache now.
            digest = xxhash.xxh3_64_hexdigest(encoded.data) if origins[i] and not unnoted[i] else ""
            for job in encoding.jobs:
                job.sink.write(encoded.data, job.assignment.offset + unit.start * row_bytes)
            if digest:
                rows_made(encoding, unit, digest, origins[i], lost[i], remark)
        rows = None if self._rows_digest is None else stored
        return _Encoded(reading, data, lost, [there is not None for there in left], origins, unnoted, rows)

    def collect(self, unit: Unit, result: _Encoded) -> None:
        if self._digest is not None:
            self._digest.update(result.reading.pieces)
        if self._rows_digest is not None and result.rows is not None:
            self._rows_digest.update(np.ascontiguousarray(result.rows).data)
        for i, (encoding, collected) in enumerate(zip(self.encodings, self._collected, strict=True)):
            if unit.stop > collected.begin and not self._is_source(encoding):
                collected.add(result.data[i], result.origins[i], result.lost[i])
                if result.unnoted[i]:
                    collected.note(encoding, unit.stop, result.unnoted[i])
            self.lost[i] += result.lost[i]
            self.left[i] += unit.rows * unit.tensor.cols if result.left[i] else 0
        weights = 0 if self._again else unit.rows * self._rows.tensor.cols
        written = sum(data.nbytes for data, left in zip(result.data, result.left, strict=True) if not left)
        self._rows.tell(weights, result.reading.nbytes, written)

    def _made_from(self, encoding: Encoding, unit: Unit, stored: _Bytes) -> str:
        """What rows are made from; "" where nobody notes it. To copy takes as long as to find out what is there."""
        if encoding.copied or all(job.entry is None for job in encoding.jobs):
            return ""
        return made_from(encoding, unit, stored, self._rows.times)

    def _left(self, number: int, unit: Unit, room: _Bytes, origin: str) -> MadeRows | None:
        """What an earlier run left of these rows of an encoding: in `room` then, if somebody wants them."""
        if not origin or not self._anything_left:
            return None
        encoding = self.encodings[number]
        if unit.stop <= self._collected[number].begin:
            left = compared_left(encoding, unit, room, origin)
        else:
            left = rows_left(encoding, unit, room, origin)
        if left is not None:
            for job in encoding.jobs:
                self._rows.prepared.remember(job.assignment, left.remark)
        return left

    def _is_source(self, encoding: Encoding) -> bool:
        """True if the source's bytes are written as they lie."""
        return encoding.copied and self._rows.as_stored and self._digest is not None

    def _room(self, unit: Unit, stored: _Bytes, slot: Slot) -> list[_Bytes]:
        """Where each encoding's rows go, one after the other in the slot; what is copied lies there already."""
        found, begin = [], 0
        for encoding in self.encodings:
            if encoding.copied:
                found.append(stored)
                continue
            row_bytes = encoding.format.spec.row_bytes(unit.tensor.cols)
            room = slot.encoded[begin : begin + unit.rows * row_bytes].reshape(unit.rows, row_bytes)
            begin += room.nbytes
            found.append(room)
        return found


class CopyOld(TensorPass[tuple[_Bytes, bool]]):
    """Copies the tensor's data from another file, which `is_what_was_recorded` says more of when it has ended."""

    def __init__(
        self, rows: StoredRows, encoding: Encoding, digest: str, read: Callable[[int, _Bytes], bool]
    ) -> None:
        """digest: XXH3-128 of the data, in hex; read(begin, out): fills `out`, or says that it can't."""
        super().__init__(rows)
        self._encoding, self._recorded, self._read = encoding, digest, read
        self._spec = encoding.format.spec
        self._digest = xxhash.xxh3_128()
        self._sound = True

    @property
    def is_what_was_recorded(self) -> bool:
        """False if the other file isn't as it was written, or an earlier version let into a block what isn't finite.

        The tensor is made again then, so that an error says where it comes from.
        """
        return self._sound and self._digest.hexdigest() == self._recorded

    def work(self, unit: Unit, slot: Slot) -> tuple[_Bytes, bool]:
        """(the rows' bytes, whether they are sound)."""
        row_bytes = self._spec.row_bytes(unit.tensor.cols)
        data = slot.encoded[: unit.rows * row_bytes]
        begin = unit.start * row_bytes
        if not self._read(begin, data):
            return data, False
        for job in self._encoding.jobs:
            job.sink.write(data.data, job.assignment.offset + begin)
        return data, self._spec.block == 1 or all_sound(self._spec, data.reshape(-1, row_bytes))

    def collect(self, unit: Unit, result: tuple[_Bytes, bool]) -> None:
        data, sound = result
        self._digest.update(data.data)
        self._sound = self._sound and sound
        self._rows.tell(0, data.nbytes, data.nbytes)
