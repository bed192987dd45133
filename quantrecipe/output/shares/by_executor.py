"""apply_by: execute a plan by an executor's workers, wherever these are. The file is the one that `apply_plan` writes.

Workers write to the files themselves if they see them, and return what they share with others, or else everything; that
is written here, and what is made is noted in a journal. Or they write pieces to a folder that all machines see, which
are assembled here. In both ways a run that was interrupted is gone on with.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from quantrecipe.api import Executor, Task
from quantrecipe.errors import ModelError, OutputError
from quantrecipe.executors.run_tasks import run_tasks
from quantrecipe.output.apply import Result, checked_outputs
from quantrecipe.output.changed_sources import ChangedSources
from quantrecipe.output.headers import write_headers
from quantrecipe.output.naming import give_names
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.resume import Keep, Resume, forget
from quantrecipe.output.shares.assemble import Gathered, assemble
from quantrecipe.output.shares.folder import open_pieces
from quantrecipe.output.shares.into import Delivered, IntoPieces, into_files
from quantrecipe.output.shares.layout import Layout
from quantrecipe.output.shares.make import MadeUnit
from quantrecipe.output.shares.noted import Noted, digest_in
from quantrecipe.output.shares.order import order_of
from quantrecipe.output.shares.part import require_room
from quantrecipe.output.shares.units import MOST, WorkUnit, cut, unit_bytes
from quantrecipe.output.space import require_space
from quantrecipe.output.transform import Handling, Nan
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.remote_files import place_of, remote_file, settle

__all__ = ["Tally", "apply_by", "require_as_made", "tasks_of", "tell", "unchecked"]

_WORKERS = 16
"""For how many workers the work is cut where pieces may be gone on with: more of them still have several units each."""


def apply_by(
    executor: Executor,
    plan: Plan,
    out: str | Path,
    *,
    registry: Registry | None = None,
    force: bool = False,
    nan: Nan = "error",
    store: str | Path | None = None,
    pieces: str | Path | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
    nbytes: int | None = None,
) -> Result:
    """Write the file that the plan describes to `out`, with the workers of an executor.

    pieces: a folder that all machines see, to which workers write what they make. None: they return it
    keep:   asked after Ctrl-C whether what they returned stays
    nbytes: of a unit; None for what is best for so many workers, or what an earlier run has chosen
    Others, and errors, as in `apply_plan`. PluginError where workers can't be opened or are all gone.
    """
    out = Path(out)
    registry = registry or load_registry()
    progress = progress or Silent()
    handling: Handling = "allow" if nan == "keep" else nan
    paths = checked_outputs(plan, out, force=force)
    require_space((path, file.nbytes) for file, path in zip(plan.files, paths, strict=True))
    kept = None if store is None else Path(store)
    if pieces is None:
        files = _Files(plan=plan, paths=paths, force=force, nan=handling, keep=keep, progress=progress)
        return _to_files(executor, files, registry, nbytes, kept)
    compiled = compile_kernels(plan.assignments, registry, progress.compiling)
    begin = time.perf_counter()
    folder = Path(pieces)
    found = open_pieces(folder, plan, nan=handling, workers=_WORKERS, nbytes=nbytes)
    into = IntoPieces(folder=folder.resolve(), run=found.run)
    order = order_of(plan, registry, nan=handling, store=kept, into=into)
    made, width, read = found.made(), 0, 0
    hidden = unchecked(plan)
    problems: dict[str, None] = {}
    missing = [unit for unit in found.units if unit.number not in made]
    progress.start(sum(unit.size for unit in found.units))
    progress.advance(sum(unit.size for unit in found.units if unit.number in made), 0, 0)
    if missing:
        require_room(found)
        with executor.open(order) as workers:
            width = workers.width
            for task, done in run_tasks(workers, tasks_of(missing), told=progress.told):
                read += done.read
                problems |= dict.fromkeys(done.problems)
                tell(plan, task.given, progress, done)
    settle(plan.model.files)
    result = assemble(
        plan, out, registry=registry, force=force, nan=nan, store=store, pieces=folder, progress=progress
    )
    return replace(
        result,
        threads=width or result.threads,
        seconds=time.perf_counter() - begin,
        compile_seconds=compiled,
        read=read + result.read,
        store_problems=(*problems, *result.store_problems),
        unchecked=hidden,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Files:
    """The files that workers make, and what is to become of them."""

    plan: Plan
    paths: Sequence[Path]
    force: bool
    nan: Handling
    keep: Keep | None
    progress: Progress


def _to_files(
    executor: Executor, files: _Files, registry: Registry, nbytes: int | None, store: Path | None
) -> Result:
    """Have all units made where they belong, but those that an earlier run has left there."""
    plan, paths, progress = files.plan, files.paths, files.progress
    forget(paths[0])
    sources, tally = ChangedSources(plan.model), Tally(plan)
    gathered = tally.gathered
    with ExitStack() as stack:
        parts = [
            stack.enter_context(PartFile(path, file.nbytes, force=files.force, keep=True))
            for file, path in zip(plan.files, paths, strict=True)
        ]
        earlier = stack.enter_context(
            Resume([(plan, parts)], nan=files.nan, progress=progress, keep=files.keep)
        )
        part_of = {
            a.tensor.name: part
            for file, part in zip(plan.files, parts, strict=True)
            for a in file.assignments
        }
        into = into_files(parts)
        layouts = {placed: into.layout(plan, placed=placed) for placed in (True, False)}
        order = order_of(plan, registry, nan=files.nan, store=store, into=into)
        compiled = compile_kernels(plan.assignments, registry, progress.compiling)
        begin = time.perf_counter()
        journal = earlier.journals[0]
        noted = Noted(plan, journal, part_of)
        with executor.open(order) as workers:
            width = workers.width
            if not journal.cut:
                journal.add_cut(nbytes or unit_bytes(plan, max(1, width)))
            units = cut(plan, journal.cut, most=MOST)
            left = noted.left(units)
            progress.start(sum(unit.size for unit in units))
            for unit in units:
                if (there := left.made.get(unit.number)) is not None:
                    tally.add_left(unit, there)
                    tally.read += there.nbytes
                    progress.advance(unit.size, there.nbytes, 0)
            missing = [unit for unit in units if unit.number not in left.made]
            for task, done in run_tasks(workers, tasks_of(missing), told=progress.told):
                made = done.made
                _write_edges(task.given, done, layouts[done.placed], parts)
                noted.note(task.given, made)
                tally.add(made)
                tell(plan, task.given, progress, made)
        gathered.settle()
        try:
            settle(plan.model.files)
            sources.require_none(gathered.sources)
        except ModelError:
            earlier.void()  # what was made is a mixture
            raise
        _hash(gathered, plan, part_of)
        write_headers(plan, parts, gathered.sources, gathered.written, gathered.remarked)
        earlier.written()
        give_names(parts)
    seconds = time.perf_counter() - begin
    return tally.result(paths, width, seconds=seconds, compiled=compiled, differing=left.differing)


@dataclass(slots=True)
class Tally:
    """What is known of a run from the units that were made. left: weights that an earlier run had made"""

    plan: Plan
    gathered: Gathered = field(default_factory=Gathered)
    read: int = 0
    left: int = 0
    from_store: list[str] = field(default_factory=list)
    problems: dict[str, None] = field(default_factory=dict)

    def add(self, made: MadeUnit) -> None:
        """A worker has made it."""
        self.gathered.add(Path(), made)
        self.read += made.read
        self.from_store += made.from_store
        self.problems |= dict.fromkeys(made.problems)  # several workers may have the same

    def add_left(self, unit: WorkUnit, made: MadeUnit) -> None:
        """An earlier run had made it."""
        self.gathered.add(Path(), made)
        self.left += unit.size

    def result(
        self,
        paths: Sequence[Path],
        threads: int,
        *,
        seconds: float,
        compiled: float,
        differing: tuple[str, ...] = (),
    ) -> Result:
        """To be asked at the end. compiled: the seconds that kernels took before"""
        found = self.gathered
        return Result(
            paths=tuple(paths),
            nbytes=self.plan.nbytes,
            threads=threads,
            seconds=seconds,
            compile_seconds=compiled,
            read=self.read,
            hashes={a.tensor.name: found.sources[a.owner or a.tensor.name] for a in self.plan.assignments},
            nonfinite=found.lost,
            remarks=found.remarks,
            reused=(),
            from_store=tuple(self.from_store),
            store_problems=tuple(self.problems),
            left=self.left,
            differing=differing,
            unchecked=unchecked(self.plan),
        )


def unchecked(plan: Plan) -> tuple[Path, ...]:
    """The files of which each worker read a part, so that nobody could hold them against the hash of the whole."""
    return tuple(
        path
        for path in plan.model.files
        if (place := place_of(path)) is not None and place.hashed and remote_file(path) is not None
    )


def tasks_of(units: Iterable[WorkUnit]) -> Iterable[Task]:
    """The tasks of workers, one for each unit."""
    return (Task(number=it.number, given=it, nbytes=it.nbytes, what=it.what) for it in units)


def require_as_made(unit: WorkUnit, done: Delivered) -> None:
    """OutputError where what a worker returned has changed on its way."""
    if not done.sound:
        raise OutputError(
            f"{unit.what}: other bytes have come than the worker made",
            "run it again; if it happens again, look at the workers' memory and network",
        )


def _write_edges(unit: WorkUnit, done: Delivered, layout: Layout, parts: Sequence[PartFile]) -> None:
    """Write what a worker returned where it belongs. OutputError."""
    require_as_made(unit, done)
    at, data = 0, done.edges.data
    for edge in layout.of(unit).edges:
        parts[edge.file].write(data[at : at + edge.nbytes], edge.begin)
        at += edge.nbytes
    for part in parts:
        part.require_sound()


def _hash(gathered: Gathered, plan: Plan, part_of: dict[str, PartFile]) -> None:
    """The hash of each tensor's data: known where it was made in one unit, else made of what was written."""
    for a in plan.assignments:
        ranges = gathered.ranges[a.tensor.name]
        if len(ranges) == 1:
            gathered.written[a.tensor.name] = ranges[0][1].data
            continue
        part = part_of[a.tensor.name]
        digest = digest_in(part, a.offset, a.nbytes)
        if not digest:
            raise OutputError(f"{part.part} can't be read", "look at the disk, or write to another")
        gathered.written[a.tensor.name] = digest


def tell(plan: Plan, unit: WorkUnit, progress: Progress, made: MadeUnit) -> None:
    """That a unit is made."""
    if unit.ranges:
        a = next(it for it in plan.assignments if it.tensor.name == unit.ranges[0].tensor)
        progress.tensor(a.tensor, (a.type,))
    progress.advance(unit.size, made.read, unit.made_bytes)
