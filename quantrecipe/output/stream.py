"""One pass over a model's tensors, for any number of jobs: a tensor that several files want is read once.

    one thread reads and hashes ─▶ threads convert, quantize and write ─▶ results are hashed in order

Memory depends on the number of threads and the length of the longest row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import lcm
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.core.finite import all_sound
from quantrecipe.model.model import Model, TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.jobs import Encoding, Job, encodings_of, jobs_by_tensor
from quantrecipe.output.pipeline import Pipeline
from quantrecipe.output.progress import Progress
from quantrecipe.output.reuse import OldTensor
from quantrecipe.output.row_units import Unit, split
from quantrecipe.output.transform import Handling, Rows, arranged
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["Stream"]

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]
T = TypeVar("T")
_NOTHING = xxhash.xxh3_128_hexdigest(b"")
"""Digest of the data of a tensor without elements."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Buffers of one unit, flat, large enough for any: source bytes, and what all encodings make of them."""

    raw: _Bytes
    encoded: _Bytes


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What a thread made of a unit: for each encoding, the bytes and how many weights lost a value."""

    data: list[_Bytes]
    lost: list[int]


class Stream:
    """Reads every tensor that has a job once, and makes of it what its jobs want.

    sources:   XXH3-128 of each tensor's stored source bytes, by name
    written:   for each output, the same of its data as written
    nonfinite: for each output, by tensor: weights whose NaN or Inf became 0
    reused:    for each output: names of the tensors that were copied from an older file
    read:      bytes read from the model, and from older files
    """

    def __init__(
        self,
        model: Model,
        jobs: Sequence[Job],
        registry: Registry,
        *,
        threads: int,
        nan: Handling,
        progress: Progress,
    ) -> None:
        self.sources: dict[str, str] = {}
        outputs = range(1 + max((job.output for job in jobs), default=0))
        self.written: list[dict[str, str]] = [{} for _ in outputs]
        self.nonfinite: list[dict[str, int]] = [{} for _ in outputs]
        self.reused: list[list[str]] = [[] for _ in outputs]
        self.read = 0
        self._model = model
        self._jobs = jobs_by_tensor(jobs)
        self._formats = registry.formats
        self._threads = threads
        self._nan = nan
        self._progress = progress
        wanted = [t for t in sorted(model.tensors, key=tensor_order) if t.name in self._jobs]
        self._tensors = [tensor for tensor in wanted if tensor.size]
        self._empty = [tensor for tensor in wanted if not tensor.size]
        # A buffer of float32 for each thread, not for each slot: slots also wait, and only who works needs one.
        self._floats: SimpleQueue[_Floats] = SimpleQueue()

    @property
    def weights(self) -> int:
        """Number of weights that will be read."""
        return sum(tensor.size for tensor in self._tensors)

    def run(self) -> None:
        """Read, hash, hand out and collect every unit; leave early with the first error of any thread."""
        for tensor in self._empty:  # they have no rows, so nothing to read or to write
            self.sources[tensor.name] = _NOTHING
            for job in self._jobs[tensor.name]:
                self.written[job.output][tensor.name] = _NOTHING
        raw, weights, encoded = self._largest()
        for _ in range(self._threads):
            self._floats.put(np.empty(weights, np.float32))
        slot = partial(_new_slot, raw, encoded)
        with TensorReader() as reader, Pipeline(self._threads, slot) as pipeline:
            for tensor in self._tensors:
                self._stream_tensor(tensor, reader, pipeline)
            pipeline.drain()

    def _stream_tensor(self, tensor: TensorInfo, reader: TensorReader, pipeline: Pipeline[_Slot]) -> None:
        encodings = encodings_of(tensor.name, self._jobs)
        self._progress.tensor(tensor, tuple(encoding.format.spec.name for encoding in encodings))
        if any(encoding.companions for encoding in encodings):
            # A factor depends on the whole matrix, so these take a pass of their own before anything is encoded.
            encodings = self._with_factors(tensor, encodings, reader, pipeline)
        # What an older file has is copied only where the source is still the same, which takes a whole pass to know;
        # whatever else is wanted of the tensor is made on the way.
        digest = self._encode(tensor, [t for t in encodings if t.old is None], reader, pipeline)
        self.sources[tensor.name] = digest
        stale = [
            replace(encoding, old=None)
            for encoding in encodings
            if encoding.old is not None
            and not (
                encoding.old.source == digest and self._copy(tensor, encoding, encoding.old, reader, pipeline)
            )
        ]
        if stale:
            self._encode(tensor, stale, reader, pipeline)

    def _encode(
        self,
        tensor: TensorInfo,
        encodings: Sequence[Encoding],
        reader: TensorReader,
        pipeline: Pipeline[_Slot],
    ) -> str:
        """Read the tensor and have its encodings written; the digest of its source bytes.

        With no encoding the weights are only checked: what is copied from an older file is held to the same.
        """
        source = xxhash.xxh3_128()
        written = [xxhash.xxh3_128() for _ in encodings]
        rows = tensor.rows * tensor.experts
        row_bytes = self._formats[tensor.dtype].spec.row_bytes(tensor.cols)

        def collect(unit: Unit, encoded: _Encoded) -> None:
            for i, encoding in enumerate(encodings):
                written[i].update(encoded.data[i].data)
                for job in encoding.jobs if encoded.lost[i] else ():
                    counts = self.nonfinite[job.output]
                    counts[tensor.name] = counts.get(tensor.name, 0) + encoded.lost[i]
                for job in encoding.jobs if unit.stop == rows else ():  # the last unit: the digest is whole
                    self.written[job.output][tensor.name] = written[i].hexdigest()
            size = sum(data.nbytes for data in encoded.data)
            self._progress.advance(unit.rows * tensor.cols, unit.rows * row_bytes, size)

        self._each(tensor, source, partial(self._encode_unit, encodings), collect, reader, pipeline)
        return source.hexdigest()

    def _encode_unit(self, encodings: Sequence[Encoding], unit: Unit, raw: _Bytes, slot: _Slot) -> _Encoded:
        """Runs in a thread of the pipeline."""
        data: list[_Bytes] = []
        lost: list[int] = []
        with self._rows(unit, raw) as rows:
            if not encodings and self._formats[unit.tensor.dtype].spec.codec:
                rows.check()
            begin = 0  # the encodings' rows lie one after the other in the slot
            for encoding in encodings:
                row_bytes = encoding.format.spec.row_bytes(unit.tensor.cols)
                out = slot.encoded[begin : begin + unit.rows * row_bytes].reshape(unit.rows, row_bytes)
                begin += out.nbytes
                encoded, count = rows.encode(
                    encoding.format,
                    None if encoding.importance is None else encoding.importance[unit.expert],
                    out,
                    copied=encoding.copied,
                    factor=None if encoding.factors is None else encoding.factors[unit.expert],
                )
                for job in encoding.jobs:
                    job.sink.write(encoded.data, job.assignment.offset + unit.start * row_bytes)
                data.append(encoded)
                lost.append(count)
        return _Encoded(data, lost)

    def _copy(
        self,
        tensor: TensorInfo,
        encoding: Encoding,
        old: OldTensor,
        reader: TensorReader,
        pipeline: Pipeline[_Slot],
    ) -> bool:
        """Copy the tensor's data from an older file; False if it isn't what that file recorded."""
        spec = encoding.format.spec
        row_bytes, rows = spec.row_bytes(tensor.cols), tensor.rows * tensor.experts
        stored = TensorSource(extents=(old.extent,), dtype=spec.name, cols=tensor.cols)
        slot = pipeline.slot()
        step = slot.encoded.size // (row_bytes * spec.rows_per_group) * spec.rows_per_group
        sound = True
        digest = xxhash.xxh3_128()
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            data = slot.encoded[: (stop - start) * row_bytes]
            reader.read_rows(stored, start, stop, data, row_bytes, tensor=tensor.name)
            self.read += data.nbytes
            digest.update(data.data)
            # What an earlier version let into a block is made again, so that the error says where it comes from.
            sound = sound and (spec.block == 1 or all_sound(spec, data.reshape(-1, row_bytes)))
            for job in encoding.jobs:
                job.sink.write(data.data, job.assignment.offset + start * row_bytes)
        pipeline.give_back(slot)
        if not sound or digest.hexdigest() != old.data:
            return False
        for job in encoding.jobs:
            self.reused[job.output].append(tensor.name)
            self.written[job.output][tensor.name] = old.data
        return True

    def _with_factors(
        self,
        tensor: TensorInfo,
        encodings: Sequence[Encoding],
        reader: TensorReader,
        pipeline: Pipeline[_Slot],
    ) -> list[Encoding]:
        """The encodings with the factors of those that have companion tensors, which are written."""
        peaks = np.zeros(tensor.experts, np.float32)

        def peak(unit: Unit, raw: _Bytes, slot: _Slot) -> float:
            with self._rows(unit, raw) as rows:
                return rows.peak()

        def collect(unit: Unit, peak: float) -> None:
            peaks[unit.expert] = max(peaks[unit.expert], np.float32(peak))

        self._each(tensor, None, peak, collect, reader, pipeline)
        pipeline.drain()  # a factor is known when the last unit of its expert was seen
        return [self._scaled(encoding, peaks) if encoding.companions else encoding for encoding in encodings]

    def _scaled(self, encoding: Encoding, peaks: _Floats) -> Encoding:
        """The encoding with its factors, which are written to the companions. peaks: float32 (experts,)."""
        factors = np.array([encoding.format.factor(float(peak)) for peak in peaks], np.float32)
        for job in encoding.companions:
            job.sink.write(factors.data, job.assignment.offset)
            self.written[job.output][job.tensor] = xxhash.xxh3_128_hexdigest(factors.data)
        return replace(encoding, factors=factors)

    def _each(
        self,
        tensor: TensorInfo,
        source: xxhash.xxh3_128 | None,
        work: Callable[[Unit, _Bytes, _Slot], T],
        collect: Callable[[Unit, T], None],
        reader: TensorReader,
        pipeline: Pipeline[_Slot],
    ) -> None:
        """Read every unit into a slot, hash it, and submit `work` on it."""
        stored = self._model.sources[tensor.name]
        row_bytes = self._formats[tensor.dtype].spec.row_bytes(tensor.cols)
        for unit in split(tensor, self._together(tensor)):
            slot = pipeline.slot()
            raw = slot.raw[: unit.rows * row_bytes]
            reader.read_rows(stored, unit.start, unit.stop, raw, row_bytes, tensor=tensor.name)
            self.read += raw.nbytes
            if source is not None:
                source.update(raw.data)
            rows = raw.reshape(unit.rows, row_bytes)
            pipeline.submit(slot, partial(work, unit, rows), partial(collect, unit))

    @contextmanager
    def _rows(self, unit: Unit, raw: _Bytes) -> Iterator[Rows]:
        """The unit's rows, with the float32 buffer of one thread."""
        floats = self._floats.get()
        try:
            stored = arranged(raw, unit, self._model.sources[unit.tensor.name].rows_per_head)
            yield Rows(unit, stored, self._formats[unit.tensor.dtype], floats, nan=self._nan)
        finally:
            self._floats.put(floats)

    def _together(self, tensor: TensorInfo) -> int:
        """Rows that must stay in one unit: those of a head, and those that any encoding interleaves."""
        groups = (job.assignment.format.spec.rows_per_group for job in self._jobs[tensor.name])
        heads = self._model.sources[tensor.name].rows_per_head if len(tensor.shape) > 1 else 1
        return lcm(heads, *groups)

    def _largest(self) -> tuple[int, int, int]:
        """Source bytes, weights and encoded bytes, of all encodings together, of the largest unit."""
        raw = weights = encoded = 1
        for tensor in self._tensors:
            unit = next(split(tensor, self._together(tensor)))
            assignments = (job.assignment for job in self._jobs[tensor.name])
            specs = {a.encoding: a.format.spec for a in assignments}
            row = sum(spec.row_bytes(tensor.cols) for spec in specs.values())
            weights = max(weights, unit.rows * tensor.cols)
            raw = max(raw, unit.rows * self._formats[tensor.dtype].spec.row_bytes(tensor.cols))
            encoded = max(encoded, unit.rows * row)
        return raw, weights, encoded


def _new_slot(raw: int, encoded: int) -> _Slot:
    return _Slot(np.empty(raw, np.uint8), np.empty(encoded, np.uint8))
