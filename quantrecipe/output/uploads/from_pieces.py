"""assemble_to: the files of a plan go from pieces straight to an object store, and never lie on a disk as a whole.

What the header says is known when all pieces are made, and a piece knows the hash of each of its ranges. So a file can
be read in the order of its bytes: the header, and then tensor by tensor. Only of tensors that were made in several
ranges the hash of the whole isn't known; these are read once more before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import xxhash

from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import OutputError
from quantrecipe.output.apply import Result
from quantrecipe.output.headers import encoded_headers
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.shares.assemble import Damaged, Gathered, whole
from quantrecipe.output.shares.folder import open_pieces
from quantrecipe.output.shares.make import MadeRange, Maker
from quantrecipe.output.shares.part import Shift
from quantrecipe.output.store.store import open_store
from quantrecipe.output.transform import Handling, Nan
from quantrecipe.output.uploads.upload import Sent
from quantrecipe.plan.plan import Plan, PlannedFile
from quantrecipe.plan.statistics import require_statistics
from quantrecipe.registry import Registry, load_registry

__all__ = ["Content", "assemble_to"]

Content = Callable[[], Iterator[bytes]]
"""The bytes of a file in order, from the beginning each time it is called."""

_CHUNK = 4 << 20  # bytes that are read in one go


class _DamagedError(OutputError):
    """A piece that hasn't the bytes that were written to it."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}", "run it again")
        self.path, self.what = path, what


def assemble_to(
    plan: Plan,
    send: Callable[[Sequence[Content]], tuple[Sent, ...]],
    pieces: str | Path,
    *,
    make: bool = True,
    registry: Registry | None = None,
    threads: int | None = None,
    nan: Nan = "error",
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Result, tuple[Sent, ...]]:
    """Send the plan's files from their pieces, and remove these.

    send: gets the content of each file, and raises what `upload` does
    Others, errors and `Result.differing` as in `assemble`; `Result.paths` are none.
    """
    registry = registry or load_registry()
    progress = progress or Silent()
    threads = threads or usable_processors()
    handling: Handling = "allow" if nan == "keep" else nan
    plan.model.require_weights("plan with it, and give apply the model itself")
    require_statistics(plan)
    found = open_pieces(Path(pieces), plan, nan=handling, create=False)
    kept = None if store is None else open_store(Path(store), create=True)
    begin = time.perf_counter()
    maker = Maker(plan, registry, threads=threads, nan=handling, progress=progress, store=kept)
    shift = Shift(found, maker, progress, "assemble")
    progress.start(sum(unit.size for unit in found.units))
    sent: tuple[Sent, ...] = ()

    def use(gathered: Gathered) -> Damaged:
        nonlocal sent
        try:
            sent = send(_contents(plan, gathered))
        except _DamagedError as error:
            return [(error.path, error.what)]
        return []

    try:
        _, result = whole(plan, found, shift, use, make=make, registry=registry, progress=progress)
    finally:
        shift.close()
    found.remove()
    result = replace(
        result,
        threads=threads,
        seconds=time.perf_counter() - begin - result.compile_seconds,
        store_problems=() if kept is None else tuple(kept.problems),
    )
    return result, sent


def _contents(plan: Plan, gathered: Gathered) -> list[Content]:
    """_DamagedError where a piece isn't what was written: here, or while a content is read."""
    for a in plan.assignments:
        ranges = gathered.ranges[a.tensor.name]
        if len(ranges) == 1:
            gathered.written[a.tensor.name] = ranges[0][1].data
            continue
        digest = xxhash.xxh3_128()
        for path, it in ranges:
            for data in _range(path, it):
                digest.update(data)
        gathered.written[a.tensor.name] = digest.hexdigest()
    headers = encoded_headers(plan, gathered.sources, gathered.written, gathered.remarked)
    return [
        partial(_content, header, file, gathered) for header, file in zip(headers, plan.files, strict=True)
    ]


def _content(header: bytes, file: PlannedFile, gathered: Gathered) -> Iterator[bytes]:
    yield header
    at = len(header)
    for a in sorted(file.assignments, key=lambda it: it.offset):
        yield bytes(a.offset - at)
        for path, it in gathered.ranges[a.tensor.name]:
            yield from _range(path, it)
        at = a.offset + a.nbytes
    yield bytes(file.nbytes - at)


def _range(path: Path, made: MadeRange) -> Iterator[bytes]:
    digest, left = xxhash.xxh3_128(), made.nbytes
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(made.offset)
            while left and (data := file.read(min(_CHUNK, left))):
                digest.update(data)
                left -= len(data)
                yield data
    except OSError as error:
        raise _DamagedError(path, f"can't be read: {error.strerror or error}") from error
    if left or digest.hexdigest() != made.data:
        raise _DamagedError(path, f"has other bytes of {made.tensor} than were written")
