"""One pass over a model's tensors, for any number of outputs.

    one thread reads and hashes ─▶ raw buffers ─▶ threads convert, quantize and write ─▶ files

The number of buffers is fixed: when all are in use, reading waits. Memory depends on the number of threads alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import lcm
from queue import SimpleQueue

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.api import FormatSpec
from quantrecipe.model.model import Model, TensorSource
from quantrecipe.model.read import TensorReader
from quantrecipe.output.progress import Progress
from quantrecipe.output.targets import Output, Target, targets_of
from quantrecipe.output.transform import Nan, Rows, Scratch, arranged
from quantrecipe.output.units import Unit, split
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["Stream"]

_AHEAD = 2
"""Raw buffers beyond one for each thread, so that reading goes on while all threads are busy."""

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a thread did: bytes read and written, and weights that lost a value, by output."""

    unit: Unit
    read: int
    written: int
    nonfinite: dict[int, int]


class Stream:
    """Reads every tensor of a model once, and makes of it what the outputs want.

    hashes:    XXH3-128 of each tensor's stored source bytes, by name
    nonfinite: for each output, by tensor: weights whose NaN or Inf became 0
    reused:    for each output: names of the tensors that were copied from an older file
    """

    def __init__(
        self,
        model: Model,
        outputs: Sequence[Output],
        registry: Registry,
        *,
        threads: int,
        nan: Nan,
        progress: Progress,
    ) -> None:
        self.hashes: dict[str, str] = {}
        self.nonfinite: list[dict[str, int]] = [{} for _ in outputs]
        self.reused: list[list[str]] = [[] for _ in outputs]
        self._model = model
        self._outputs = outputs
        self._assigned = [output.assignments() for output in outputs]
        self._formats = registry.formats
        self._threads = threads
        self._nan = nan
        self._progress = progress
        self._tensors = [t for t in sorted(model.tensors, key=tensor_order) if self._wanted(t)]
        self._raw: SimpleQueue[_Bytes] = SimpleQueue()
        self._scratch: SimpleQueue[Scratch] = SimpleQueue()
        self._running: deque[Future[_Done]] = deque()
        self._fill_pools()

    @property
    def weights(self) -> int:
        """Number of weights that will be read."""
        return sum(tensor.size for tensor in self._tensors)

    def run(self) -> None:
        """Read, hash and hand out every unit; leave early with the first error of any thread."""
        with TensorReader() as reader, ThreadPoolExecutor(self._threads, "quantize") as pool:
            try:
                for tensor in self._tensors:
                    self._stream_tensor(tensor, reader, pool)
                while self._running:
                    self._collect(self._running.popleft())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _stream_tensor(self, tensor: TensorInfo, reader: TensorReader, pool: ThreadPoolExecutor) -> None:
        targets = targets_of(tensor.name, self._outputs, self._assigned)
        if any(target.companions for target in targets):
            targets = self._with_factors(tensor, targets, reader, pool)
        self._progress.tensor(tensor, tuple(target.format.spec.name for target in targets))
        fresh = [target for target in targets if target.old is None]
        digest = self._read(tensor, fresh, reader, pool)
        same = [target for target in targets if target.old is not None and target.old.source == digest]
        for target in same:
            self._copy(tensor, target, reader)
        changed = [replace(t, old=None) for t in targets if t.old is not None and t.old.source != digest]
        if changed:
            self._read(tensor, changed, reader, pool)
        self.hashes[tensor.name] = digest

    def _with_factors(
        self, tensor: TensorInfo, targets: Sequence[Target], reader: TensorReader, pool: ThreadPoolExecutor
    ) -> list[Target]:
        """The targets with the factors of those that have companion tensors, which are written."""
        peaks = np.zeros(tensor.experts, np.float32)
        surveys: deque[tuple[int, Future[float]]] = deque()

        def take() -> None:
            expert, future = surveys.popleft()
            peaks[expert] = max(peaks[expert], np.float32(future.result()))

        for unit, buffer, rows in self._raw_units(tensor, reader, None):
            surveys.append((unit.expert, pool.submit(self._survey, unit, buffer, rows)))
            while surveys and surveys[0][1].done():
                take()
        while surveys:
            take()
        return [_scaled(target, peaks) if target.companions else target for target in targets]

    def _survey(self, unit: Unit, buffer: _Bytes, raw: _Bytes) -> float:
        """The largest magnitude among a unit's weights."""
        scratch = self._scratch.get()
        try:
            source = self._model.sources[unit.tensor.name]
            stored = arranged(raw, unit, source.rows_per_head)
            return Rows(unit, stored, self._formats[unit.tensor.dtype], scratch, nan=self._nan).peak()
        finally:
            self._scratch.put(scratch)
            self._raw.put(buffer)

    def _raw_units(
        self, tensor: TensorInfo, reader: TensorReader, digest: xxhash.xxh3_128 | None
    ) -> Iterator[tuple[Unit, _Bytes, _Bytes]]:
        """Each unit of a tensor, the buffer that it was read into, and its rows in there: (rows, row bytes)."""
        source = self._model.sources[tensor.name]
        row_bytes = self._formats[tensor.dtype].spec.row_bytes(tensor.cols)
        for unit in split(tensor, self._together(tensor, source)):
            buffer = self._raw.get()
            raw = buffer[: unit.rows * row_bytes]
            reader.read_rows(source, unit.start, unit.stop, raw, row_bytes, tensor=tensor.name)
            if digest is not None:
                digest.update(raw.data)
            yield unit, buffer, raw.reshape(unit.rows, row_bytes)

    def _read(
        self, tensor: TensorInfo, targets: Sequence[Target], reader: TensorReader, pool: ThreadPoolExecutor
    ) -> str:
        """Read a tensor and hand its units out; the digest of its bytes."""
        digest = xxhash.xxh3_128()
        for unit, buffer, rows in self._raw_units(tensor, reader, digest):
            while self._running and self._running[0].done():
                self._collect(self._running.popleft())
            self._running.append(pool.submit(self._work, unit, buffer, rows, targets))
        return digest.hexdigest()

    def _work(self, unit: Unit, buffer: _Bytes, raw: _Bytes, targets: Sequence[Target]) -> _Done:
        scratch = self._scratch.get()
        try:
            source = self._model.sources[unit.tensor.name]
            stored = arranged(raw, unit, source.rows_per_head)
            rows = Rows(unit, stored, self._formats[unit.tensor.dtype], scratch, nan=self._nan)
            if not targets and self._formats[unit.tensor.dtype].spec.codec:
                rows.check()  # what is copied from an older file is held to the same
            written, nonfinite = 0, {}
            for target in targets:
                importance = None if target.importance is None else target.importance[unit.expert]
                factor = None if target.factors is None else target.factors[unit.expert]
                encoded, lost = rows.encode(target.format, importance, copied=target.copied, factor=factor)
                for place in target.places:
                    place.file.write(encoded.data, place.offset + unit.start * encoded.shape[1])
                    written += encoded.nbytes
                    if lost:
                        nonfinite[place.output] = lost
            return _Done(unit, raw.nbytes, written, nonfinite)
        finally:
            self._scratch.put(scratch)
            self._raw.put(buffer)

    def _copy(self, tensor: TensorInfo, target: Target, reader: TensorReader) -> None:
        """Copy a tensor's data from an older file."""
        assert target.old is not None
        row_bytes = target.format.spec.row_bytes(tensor.cols)
        old = TensorSource(extents=(target.old.extent,), dtype=target.format.spec.name, cols=tensor.cols)
        buffer = self._raw.get()
        step = max(1, buffer.size // row_bytes)
        rows = tensor.rows * tensor.experts
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            data = buffer[: (stop - start) * row_bytes]
            reader.read_rows(old, start, stop, data, row_bytes, tensor=tensor.name)
            for place in target.places:
                place.file.write(data.data, place.offset + start * row_bytes)
        self._raw.put(buffer)
        for place in target.places:
            self.reused[place.output].append(tensor.name)

    def _collect(self, future: Future[_Done]) -> None:
        done = future.result()
        tensor = done.unit.tensor
        for output, lost in done.nonfinite.items():
            counts = self.nonfinite[output]
            counts[tensor.name] = counts.get(tensor.name, 0) + lost
        self._progress.advance(done.unit.rows * tensor.cols, done.read, done.written)

    def _wanted(self, tensor: TensorInfo) -> bool:
        return any(tensor.name in assigned for assigned in self._assigned)

    def _together(self, tensor: TensorInfo, source: TensorSource) -> int:
        """Rows that must stay in one unit: those of a head, and those that any target interleaves."""
        groups = [
            assigned[tensor.name][0].format.spec.rows_per_group
            for assigned in self._assigned
            if tensor.name in assigned
        ]
        return lcm(source.rows_per_head if len(tensor.shape) > 1 else 1, *groups)

    def _fill_pools(self) -> None:
        """As many buffers as can be in use at once, each large enough for the largest unit and the widest row."""
        raw = weights = encoded = 1
        for tensor in self._tensors:
            unit = next(split(tensor, self._together(tensor, self._model.sources[tensor.name])))
            weights = max(weights, unit.rows * tensor.cols)
            raw = max(raw, unit.rows * self._formats[tensor.dtype].spec.row_bytes(tensor.cols))
            for spec in self._specs(tensor):
                encoded = max(encoded, unit.rows * spec.row_bytes(tensor.cols))
        for _ in range(self._threads + _AHEAD):
            self._raw.put(np.empty(max(raw, encoded), np.uint8))
        for _ in range(self._threads):
            self._scratch.put(
                Scratch(floats=np.empty(weights, np.float32), encoded=np.empty(encoded, np.uint8))
            )

    def _specs(self, tensor: TensorInfo) -> Iterator[FormatSpec]:
        for assigned in self._assigned:
            if tensor.name in assigned:
                yield assigned[tensor.name][0].format.spec


def _scaled(target: Target, peaks: NDArray[np.float32]) -> Target:
    """The target with its factors, which are written to the companion tensors. peaks: float32 (experts,)."""
    factors = np.array([target.format.factor(float(peak)) for peak in peaks], np.float32)
    for place in target.companions:
        place.file.write(factors.data, place.offset)
    return replace(target, factors=factors)
