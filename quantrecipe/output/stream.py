"""One pass over a model's tensors, for any number of jobs: a tensor that several files want is read once.

    any thread: read some rows ─▶ convert, quantize ─▶ write ─▶ hash what was read and written, in order

Memory depends on the number of threads and the length of the longest row alone; where a source is transposed, on its
slab, too (`model/source/layout.py`), and where encoders know inputs, on what they keep of two (`preparations.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import lcm
from queue import SimpleQueue

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.source.reading import read_whole
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.compare_left import CompareFirst, CompareLeft
from quantrecipe.output.jobs import Encoding, Job, encodings_of, jobs_by_tensor
from quantrecipe.output.journal_records import MadeTensor
from quantrecipe.output.kept import tensor_left
from quantrecipe.output.passes import CopyOld, Encode, FindPeaks, Slot, StoredRows
from quantrecipe.output.pipeline import Pass, Pipeline
from quantrecipe.output.preparations import Preparations
from quantrecipe.output.progress import Progress
from quantrecipe.output.reuse import OldTensor
from quantrecipe.output.row_units import CHUNK_WEIGHTS, ENCODER_ROWS, PART_WEIGHTS, Unit, parts, split
from quantrecipe.output.store.shelf import Shelf
from quantrecipe.output.store.store import Store
from quantrecipe.output.transform import Handling
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["Stream"]

_Floats = NDArray[np.float32]
_NOTHING = xxhash.xxh3_128_hexdigest(b"")
"""Digest of the data of a tensor without elements."""


class Stream:
    """Reads every tensor that has a job once, and makes of it what its jobs want.

    sources:   XXH3-128 of each tensor's stored source bytes, by name
    written:   for each output, the same of its data as written
    nonfinite: for each output, by tensor: weights whose NaN or Inf became 0
    remarked:  for each output, by tensor: how many of its matrices the encoder made remarks on
    remarks:   for each output, by tensor: the different ones of those that were made now
    reused:    for each output: names of the tensors that were copied from an older file
    from_store: for each output: names of the tensors that were copied from a store
    left:      for each output: weights whose bytes an earlier run had left
    differing: names of tensors that an earlier run had finished, and whose bytes weren't what its journal says
    read:      bytes read from the model, from older files, and of what an earlier run had left
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
        store: Store | None = None,
        ranges: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """ranges: of these tensors, only the rows from one to another are made, and `sources` has "" of them."""
        self.sources: dict[str, str] = {}
        outputs = range(1 + max((job.output for job in jobs), default=0))
        self.written: list[dict[str, str]] = [{} for _ in outputs]
        self.nonfinite: list[dict[str, int]] = [{} for _ in outputs]
        self.remarked: list[dict[str, int]] = [{} for _ in outputs]
        self.remarks: list[dict[str, tuple[str, ...]]] = [{} for _ in outputs]
        self.reused: list[list[str]] = [[] for _ in outputs]
        self.from_store: list[list[str]] = [[] for _ in outputs]
        self.left = [0 for _ in outputs]
        self.differing: list[str] = []
        self.read = 0
        self._store = store
        self._ranges = ranges or {}
        self._model = model
        self._jobs = jobs_by_tensor(jobs)
        self._formats = registry.formats
        self._threads = threads
        self._prepared = Preparations(threads)
        self._nan = nan
        self._progress = progress
        wanted = [t for t in sorted(model.tensors, key=tensor_order) if t.name in self._jobs]
        self._tensors = [tensor for tensor in wanted if tensor.size]
        self._empty = [tensor for tensor in wanted if not tensor.size]

    @property
    def weights(self) -> int:
        """Number of weights that will be read."""
        rows = (self._ranges.get(it.name, (0, it.rows * it.experts)) for it in self._tensors)
        return sum((stop - start) * it.cols for (start, stop), it in zip(rows, self._tensors, strict=True))

    def said(self, a: Assignment) -> dict[int, str]:
        """What the encoder had to say of a tensor's statistics, by the number of the matrix."""
        return self._prepared.remarks.get((a.tensor.name, a.encoding), {})

    def run(self) -> None:
        """Do what the jobs want. What a thread raises ends it early."""
        for tensor in self._empty:  # they have no rows, so nothing to read or to write
            self.sources[tensor.name] = _NOTHING
            for job in self._jobs[tensor.name]:
                self.written[job.output][tensor.name] = _NOTHING
        with TensorReader() as reader:
            raw, weights, encoded = self._largest()
            pipeline = Pipeline(
                self._threads, lambda: Slot(np.empty(raw, np.uint8), np.empty(encoded, np.uint8))
            )
            # Float32 is a buffer of each thread, not of each slot: slots also wait, and only who works needs one.
            floats: SimpleQueue[_Floats] = SimpleQueue()
            for _ in range(self._threads):
                floats.put(np.empty(weights, np.float32))
            try:
                pipeline.run(self._flow(tensor, reader, floats, pipeline) for tensor in self._tensors)
            finally:
                if self._store is not None:
                    self._store.discard_unfinished()

    def _times(self, tensor: TensorInfo, reader: TensorReader) -> _Floats | None:
        """The factors that the model has beside a tensor of blocks: float32 (experts,)."""
        companion = self._formats[tensor.dtype].spec.companion
        name = "" if companion is None else companion_name(tensor, companion)
        if name not in self._model.sources:
            return None
        found = read_whole(self._model.sources[name], reader, tensor=name).reshape(-1).astype(np.float32)
        if found.size != tensor.experts:
            what = f"{name} has {found.size} factors (expected: {tensor.experts}, one for each matrix of {tensor.name})"
            raise ModelError(what, "leave the matrix alone (`type: keep`)", file=self._model.path)
        return found

    def _flow(
        self, tensor: TensorInfo, reader: TensorReader, floats: SimpleQueue[_Floats], pipeline: Pipeline[Slot]
    ) -> Iterator[Pass[Slot]]:
        """What is done for a tensor: passes over its rows, of which each begins when the one before has ended."""
        encodings = encodings_of(tensor.name, self._jobs)
        times = self._times(tensor, reader)
        if (
            times is not None
        ):  # the hash of the source, by which an older file is known, isn't of the factors, too
            encodings = [it if it.copied else replace(it, old=None) for it in encodings]
        types = tuple(encoding.format.spec.name for encoding in encodings)
        pipeline.tell(partial(self._progress.tensor, tensor, types))
        rows = StoredRows(
            tensor=tensor,
            source=self._model.sources[tensor.name],
            format=self._formats[tensor.dtype],
            group=self._group(tensor),
            reader=reader,
            floats=floats,
            nan=self._nan,
            times=times,
            tell=lambda *done: pipeline.tell(partial(self._advance, *done)),
            part=self._for_encoders(tensor),
            prepared=self._prepared,
        )
        units = partial(self._units, tensor)
        left = tensor_left(encodings)
        if left is not None:
            compared = CompareLeft(rows, encodings, left)
            yield compared.over(units())
            if compared.is_what_was_noted:
                self._note_left(tensor, encodings, left)
                return
            self.differing.append(tensor.name)
        if any(encoding.companions for encoding in encodings):
            # A factor depends on the whole matrix, so these take a pass of their own before anything is encoded.
            peaks = FindPeaks(rows)
            yield peaks.over(units())
            encodings = [self._scaled(it, peaks.found) if it.companions else it for it in encodings]
        first = CompareFirst(rows, encodings)
        yield first.over(units())
        # What an older file or a store has is copied only where the source is still the same, which takes a whole pass
        # to know; whatever else is wanted of the tensor is made on the way.
        in_part = tensor.name in self._ranges
        shelf = Shelf(None if in_part else self._store, rows, encodings)
        waiting = [it for it in encodings if it.old is not None or shelf.may_have(it)]
        waits = {it.digest for it in waiting}
        made = Encode(
            rows,
            [shelf.adding(it) for it in encodings if it.digest not in waits],
            first=first.found,
            again=left is not None,
            check=any(it.old is not None for it in waiting),
            hash_rows=shelf.wants_hash,
            hash_source=not in_part,
        )
        yield made.over(units())
        self.sources[tensor.name] = made.source
        self._note(tensor, made, shelf, made)
        stale: list[Encoding] = []
        for encoding in waiting:
            if not (yield from self._copied(rows, encoding, shelf, made, units)):
                stale.append(shelf.adding(replace(encoding, old=None)))
        if stale:
            again = Encode(rows, stale, again=True)
            yield again.over(units())
            self._note(tensor, again, shelf, made)

    def _copied(
        self,
        rows: StoredRows,
        encoding: Encoding,
        shelf: Shelf,
        made: Encode,
        units: Callable[[], Iterator[Unit]],
    ) -> Generator[Pass[Slot], None, bool]:
        """Copy an encoding from an older file, or from the store; False where neither has it. made: read the source."""
        if encoding.old is not None and encoding.old.source == made.source:
            old = encoding.old
            copy = CopyOld(rows, encoding, old.data, partial(_read_old, rows, old))
            yield copy.over(units())
            if copy.is_what_was_recorded:
                there = MadeTensor(source=made.source, data=old.data, remarked=old.remarked, reused=True)
                self._note_made(rows.tensor, encoding, there)
                return True
        stored = shelf.find(encoding, made.rows_digest)
        if stored is None:
            return False
        with stored:
            copy = CopyOld(rows, encoding, stored.facts.data, stored.read)
            yield copy.over(units())
        if not copy.is_what_was_recorded:
            shelf.damaged(stored)
            return False
        self._note_made(rows.tensor, encoding, stored.facts.made(made.source))
        for job in encoding.jobs:
            self.from_store[job.output].append(rows.tensor.name)
        return True

    def _remarks_on(self, a: Assignment) -> tuple[int, tuple[str, ...]]:
        """On how many matrices of a tensor the encoder made remarks, and the different ones."""
        said = self.said(a)
        return len(said), tuple(dict.fromkeys(said[number] for number in sorted(said)))

    def _note(self, tensor: TensorInfo, made: Encode, shelf: Shelf, first: Encode) -> None:
        """Take down what was made of the tensor. first: the pass that knows the hash of all rows."""
        each = zip(made.encodings, made.written, made.lost, made.left, strict=True)
        for encoding, digest, lost, left in each:
            remarked, remarks = self._remarks_on(encoding.jobs[0].assignment)
            there = MadeTensor(
                source=self.sources[tensor.name],
                data=digest,
                lost=lost,
                remarked=remarked,
                remarks=remarks,
            )
            self._note_made(tensor, encoding, there)
            if encoding.addition is not None:
                shelf.keep(encoding, there, first.rows_digest)
            for job in encoding.jobs:
                self.left[job.output] += left

    def _note_left(
        self, tensor: TensorInfo, encodings: Sequence[Encoding], left: Sequence[MadeTensor]
    ) -> None:
        """Take down what an earlier run had made of the tensor."""
        self.sources[tensor.name] = left[0].source
        for encoding, there in zip(encodings, left, strict=True):
            self._take_down(tensor, encoding, there)
            for job in encoding.jobs:
                self.left[job.output] += tensor.size
            for job in encoding.companions:
                if job.entry is not None and (factors := job.entry.done()) is not None:
                    self.written[job.output][job.tensor] = factors.data
                    self.left[job.output] += job.assignment.tensor.size

    def _note_made(self, tensor: TensorInfo, encoding: Encoding, made: MadeTensor) -> None:
        """The same of what this run has made, in the journals, too."""
        self._take_down(tensor, encoding, made)
        for job in encoding.companions:
            if job.entry is not None:
                job.entry.add_done(replace(made, data=self.written[job.output][job.tensor]))
        for job in encoding.jobs:
            if job.entry is not None:
                job.entry.add_done(made)

    def _take_down(self, tensor: TensorInfo, encoding: Encoding, made: MadeTensor) -> None:
        for job in encoding.jobs:
            self.written[job.output][tensor.name] = made.data
            if made.reused:
                self.reused[job.output].append(tensor.name)
            if made.lost:
                self.nonfinite[job.output][tensor.name] = made.lost
            if made.remarked:
                self.remarked[job.output][tensor.name] = made.remarked
            if made.remarks:
                self.remarks[job.output][tensor.name] = made.remarks

    def _scaled(self, encoding: Encoding, peaks: _Floats) -> Encoding:
        """The encoding with its factors, which are written to the companions. peaks: float32 (experts,)."""
        factors = np.array([encoding.format.factor(float(peak)) for peak in peaks], np.float32)
        tensor = encoding.jobs[0].assignment.tensor
        start, stop = self._ranges.get(tensor.name, (0, tensor.rows * tensor.experts))
        first = start // tensor.rows
        known = factors[first : -(-stop // tensor.rows)]  # of other experts the peak isn't known
        for job in encoding.companions:
            job.sink.write(known.data, job.assignment.offset + first * known.itemsize)
            self.written[job.output][job.tensor] = xxhash.xxh3_128_hexdigest(known.data)
        return replace(encoding, factors=factors)

    def _advance(self, weights: int, read: int, written: int) -> None:
        """So much is done. Runs in the thread that runs the stream."""
        self.read += read
        self._progress.advance(weights, read, written)

    def _together(self, tensor: TensorInfo) -> int:
        """Rows that stay in one unit: those that the source reads at once, and those that any encoding interleaves."""
        return lcm(self._model.sources[tensor.name].together, self._group(tensor))

    def _group(self, tensor: TensorInfo) -> int:
        """Rows that any encoding interleaves."""
        return lcm(*(job.assignment.format.spec.rows_per_group for job in self._jobs[tensor.name]))

    def _units(self, tensor: TensorInfo) -> Iterator[Unit]:
        """The tensor's units, larger ones where an encoder wants more rows at a time."""
        together, size = self._together(tensor), self._for_encoders(tensor)
        rows = self._ranges.get(tensor.name)
        if size is None:
            return split(tensor, together, rows=rows)
        return split(tensor, together, max(size, CHUNK_WEIGHTS), rows=rows)

    def _for_encoders(self, tensor: TensorInfo) -> int | None:
        """Weights of a part of a unit where an encoder makes the bytes; None where none does."""
        if all(job.assignment.encoder is None for job in self._jobs[tensor.name]):
            return None
        return max(PART_WEIGHTS, ENCODER_ROWS * tensor.cols)

    def _largest(self) -> tuple[int, int, int]:
        """Stored bytes of the largest unit, weights of its largest part, encoded bytes of all encodings together."""
        raw = weights = encoded = 1
        for tensor in self._tensors:
            unit, size = next(self._units(tensor)), self._for_encoders(tensor)
            group = self._group(tensor)
            part = next(parts(unit, group) if size is None else parts(unit, group, size))
            assignments = (job.assignment for job in self._jobs[tensor.name])
            specs = {a.encoding: a.format.spec for a in assignments}
            row = sum(spec.row_bytes(tensor.cols) for spec in specs.values())
            raw = max(raw, self._model.sources[tensor.name].stored_bytes(unit.rows))
            weights = max(weights, part.rows * tensor.cols)
            encoded = max(encoded, unit.rows * row)
        return raw, weights, encoded


def _read_old(rows: StoredRows, old: OldTensor, begin: int, out: NDArray[np.uint8]) -> bool:
    """Read bytes of a tensor of an older file."""
    rows.reader.read((old.extent,), begin, out, tensor=rows.tensor.name)
    return True
