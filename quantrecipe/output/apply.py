"""apply_plan: execute a plan in one streaming pass.

    one thread reads and hashes ─▶ raw buffers ─▶ threads convert, quantize and write ─▶ NAME.part ─▶ NAME

Every tensor's place is known, so units are written wherever they belong as soon as they are done. The number
of buffers is fixed: when all are in use, reading waits. Memory depends on the number of threads alone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.errors import OutputError
from quantrecipe.gguf.write import encode_header
from quantrecipe.model.read import TensorReader
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.transform import Nan, Scratch, source_row_bytes, transform
from quantrecipe.output.units import Unit, split
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.make import entries
from quantrecipe.plan.metadata import SOURCE_HASHES, source_hashes
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.registry import Registry, load_registry

__all__ = ["Result", "apply_plan"]

_AHEAD = 2
"""Raw buffers beyond one for each thread, so that reading goes on while all threads are busy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What `apply_plan` did.

    hashes:          XXH3-128 of each tensor's stored source bytes, by name
    nonfinite:       weights that aren't finite, by tensor (with nan="keep")
    compile_seconds: spent compiling kernels, before `seconds` starts
    """

    path: Path
    nbytes: int
    threads: int
    seconds: float
    compile_seconds: float
    hashes: dict[str, str]
    nonfinite: dict[str, int]


def apply_plan(
    plan: Plan,
    out: str | Path,
    *,
    registry: Registry | None = None,
    threads: int | None = None,
    force: bool = False,
    nan: Nan = "error",
    progress: Progress | None = None,
) -> Result:
    """Write the file that the plan describes to `out`; it appears under that name when it is whole.

    `threads` is how many quantize (default: the cores that this process may use); one more reads. The bytes
    don't depend on it. Raises OutputError where `out` exists (unless `force`) or can't be written, ModelError
    where the model's files aren't what their headers said, NonFiniteError for NaN and Inf (unless
    nan="keep"). Whatever is raised, nothing that existed is changed.
    """
    registry = registry or load_registry()
    progress = progress or Silent()
    threads = threads or _cores()
    path = Path(out)
    _refuse_source(path, plan)
    with PartFile(path, plan.nbytes, force=force) as file:
        started = time.perf_counter()
        progress.compiling(plan)
        compile_kernels(plan, registry)
        compiled = time.perf_counter()
        progress.start(plan)
        stream = _Stream(plan, registry, file, threads=threads, nan=nan, progress=progress)
        stream.run()
        file.write(memoryview(_header(plan, stream.hashes)), 0)
        file.finish()
    return Result(
        path=path,
        nbytes=plan.nbytes,
        threads=threads,
        seconds=time.perf_counter() - compiled,
        compile_seconds=compiled - started,
        hashes=stream.hashes,
        nonfinite=stream.nonfinite,
    )


class _Stream:
    """One run over all tensors."""

    def __init__(
        self, plan: Plan, registry: Registry, file: PartFile, *, threads: int, nan: Nan, progress: Progress
    ) -> None:
        self.hashes: dict[str, str] = {}
        self.nonfinite: dict[str, int] = {}
        self._plan = plan
        self._formats = registry.formats
        self._file = file
        self._nan = nan
        self._progress = progress
        self._threads = threads
        self._raw: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()
        self._scratch: SimpleQueue[Scratch] = SimpleQueue()
        self._running: deque[Future[tuple[Unit, int, int]]] = deque()
        self._fill_pools()

    def run(self) -> None:
        """Read, hash and hand out every unit; leave early with the first error of any thread."""
        with TensorReader() as reader, ThreadPoolExecutor(self._threads, "quantize") as pool:
            try:
                for assignment in self._plan.assignments:
                    self._progress.tensor(assignment)
                    self._stream_tensor(assignment, reader, pool)
                while self._running:
                    self._collect(self._running.popleft())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _stream_tensor(self, assignment: Assignment, reader: TensorReader, pool: ThreadPoolExecutor) -> None:
        tensor = assignment.tensor
        source = self._plan.model.sources[tensor.name]
        row_bytes = source_row_bytes(source.dtype, tensor.cols, self._formats)
        importance = self._importance(assignment)
        digest = xxhash.xxh3_128()
        for unit in self._units(assignment):
            while self._running and self._running[0].done():
                self._collect(self._running.popleft())
            buffer = self._raw.get()
            raw = buffer[: unit.rows * row_bytes]
            reader.read_rows(source, unit.start, unit.stop, raw, row_bytes, tensor=tensor.name)
            digest.update(raw.data)
            vector = None if importance is None else importance[unit.expert]
            self._running.append(
                pool.submit(self._work, unit, buffer, raw.reshape(unit.rows, row_bytes), vector)
            )
        self.hashes[tensor.name] = digest.hexdigest()

    def _work(
        self,
        unit: Unit,
        buffer: NDArray[np.uint8],
        raw: NDArray[np.uint8],
        importance: NDArray[np.float32] | None,
    ) -> tuple[Unit, int, int]:
        scratch = self._scratch.get()
        try:
            encoded, nonfinite = transform(
                unit,
                raw,
                importance,
                scratch,
                source=self._formats[unit.assignment.tensor.dtype],
                rows_per_head=self._plan.model.sources[unit.assignment.tensor.name].rows_per_head,
                nan=self._nan,
            )
            self._file.write(encoded.data, unit.offset)
            return unit, raw.nbytes, nonfinite
        finally:
            self._scratch.put(scratch)
            self._raw.put(buffer)

    def _collect(self, future: Future[tuple[Unit, int, int]]) -> None:
        unit, read, nonfinite = future.result()
        tensor = unit.assignment.tensor
        if nonfinite:
            self.nonfinite[tensor.name] = self.nonfinite.get(tensor.name, 0) + nonfinite
        self._progress.advance(
            unit.rows * tensor.cols, read, unit.rows * unit.assignment.format.spec.row_bytes(tensor.cols)
        )

    def _importance(self, assignment: Assignment) -> NDArray[np.float32] | None:
        """float32 (experts, cols), or None."""
        if not assignment.importance or self._plan.importance is None:
            return None
        return self._plan.importance.for_tensor(assignment.tensor)

    def _units(self, assignment: Assignment) -> Iterator[Unit]:
        return split(assignment, self._plan.model.sources[assignment.tensor.name].rows_per_head)

    def _fill_pools(self) -> None:
        """As many buffers as can be in use at once, each large enough for the largest unit."""
        raw = weights = encoded = 1
        for assignment in self._plan.assignments:
            unit = next(self._units(assignment))  # the first is as large as any
            cols = assignment.tensor.cols
            raw = max(raw, unit.rows * source_row_bytes(assignment.tensor.dtype, cols, self._formats))
            weights = max(weights, unit.rows * cols)
            encoded = max(encoded, unit.rows * assignment.format.spec.row_bytes(cols))
        for _ in range(self._threads + _AHEAD):
            self._raw.put(np.empty(raw, np.uint8))
        for _ in range(self._threads):
            self._scratch.put(
                Scratch(floats=np.empty(weights, np.float32), encoded=np.empty(encoded, np.uint8))
            )


def _header(plan: Plan, hashes: dict[str, str]) -> bytes:
    metadata = dict(plan.metadata)
    if SOURCE_HASHES in metadata:
        metadata[SOURCE_HASHES] = source_hashes([hashes[a.tensor.name] for a in plan.assignments])
    header = encode_header(metadata, entries(plan.assignments, header=plan.header), plan.alignment)
    if len(header) != plan.header:
        raise OutputError(f"the header came out at {len(header)} bytes, and the plan said {plan.header}")
    return header


def _refuse_source(path: Path, plan: Plan) -> None:
    for source in plan.model.files:
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputError(f"{path} is the model itself", "name another file with -o FILE")


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
