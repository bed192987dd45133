"""apply_plan, apply_plans: execute plans in one streaming pass over the model.

Every tensor's place is known, so its rows are written wherever they belong as soon as they are done. Files
appear under their names when all of them are whole and on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import ModelError, OutputError
from quantrecipe.output.changed_sources import ChangedSources
from quantrecipe.output.headers import write_headers
from quantrecipe.output.jobs import Job
from quantrecipe.output.journal import journal_path
from quantrecipe.output.naming import check_destination, give_names
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.paths import check_paths
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.read_ahead import ReadAhead
from quantrecipe.output.resume import Keep, Resume, forget
from quantrecipe.output.reuse import OldTensor, read_old_tensors
from quantrecipe.output.space import require_space
from quantrecipe.output.store.store import open_store
from quantrecipe.output.stream import Stream
from quantrecipe.output.transform import Handling, Nan
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.statistics import require_statistics
from quantrecipe.registry import Registry, load_registry
from quantrecipe.remote_files import remote_file, settle

__all__ = ["Result", "apply_plan", "apply_plans", "checked_outputs", "output_paths"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What applying a plan came to.

    paths:           the files that were written: one, or the shards
    seconds:         for all plans of the run together
    compile_seconds: spent compiling kernels, before `seconds` starts; 0 where all were in the cache
    read:            bytes read from the model's tensors and from older outputs, for all plans together
    hashes:          XXH3-128 of each tensor's stored source bytes, by name
    nonfinite:       by tensor: weights that weren't finite and are 0 now (with nan="allow")
    remarks:         by tensor: what its encoder has to say of its statistics. Of tensors that were copied, nothing
    reused:          tensors that were copied from an older output
    unchecked:       files on the hub that were read in part, so that they couldn't be held against its hashes
    """

    paths: tuple[Path, ...]
    nbytes: int
    threads: int
    seconds: float
    compile_seconds: float
    read: int
    hashes: dict[str, str]
    nonfinite: dict[str, int]
    remarks: dict[str, tuple[str, ...]]
    reused: tuple[str, ...]
    from_store: tuple[str, ...] = ()
    store_problems: tuple[str, ...] = ()
    left: int = 0
    differing: tuple[str, ...] = ()
    unchecked: tuple[Path, ...] = ()

    @property
    def path(self) -> Path:
        """The file, or the first shard: what is given to llama.cpp."""
        return self.paths[0]


def apply_plan(
    plan: Plan,
    out: str | Path,
    *,
    registry: Registry | None = None,
    threads: int | None = None,
    force: bool = False,
    nan: Nan = "error",
    reuse: str | Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    keep: Keep | None = None,
    store: str | Path | None = None,
) -> Result:
    """Write the file that the plan describes to `out`; it appears under that name when it is whole.

    `threads` is how many read, quantize and write (default: the cores that this process may use). The bytes
    don't depend on it. `reuse` names an older output, whose tensors are copied where source, type, options and
    importance are the same. With `resume`, the run keeps a journal beside its part file and goes on with what an
    interrupted run of the same plan has left; `keep` is asked after Ctrl-C whether the part stays. `store` is a
    folder of encoded tensors, which is read and added to; it is made if need be.

    Raises OutputError where `out` exists (unless `force`) or can't be written, ModelError where the model's files
    aren't what their headers said, NonFiniteError for NaN and Inf (unless nan="allow"). Whatever is raised, nothing
    that existed is changed, but for what such a run had left.
    """
    return apply_plans(
        [(plan, out)],
        registry=registry,
        threads=threads,
        force=force,
        nan=nan,
        reuse=reuse,
        progress=progress,
        resume=resume,
        keep=keep,
        store=store,
    )[0]


def apply_plans(
    plans: Sequence[tuple[Plan, str | Path]],
    *,
    registry: Registry | None = None,
    threads: int | None = None,
    force: bool = False,
    nan: Nan = "error",
    reuse: str | Path | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    keep: Keep | None = None,
    store: str | Path | None = None,
) -> list[Result]:
    """The same for several plans of one model, which is read and converted once.

    Tensors that several plans give the same type, options and importance are quantized once. All files appear
    at the end, or none.
    """
    registry = registry or load_registry()
    progress = progress or Silent()
    threads = threads or usable_processors()
    model = plans[0][0].model
    model.require_weights("plan with it, and give apply the model itself")
    for plan, _ in plans:
        require_statistics(plan)
    paths = [output_paths(Path(out), len(plan.files)) for plan, out in plans]
    # Everything that can be refused without reading weights is refused before a file is made.
    check_paths(
        [path for group in paths for path in group],
        [plan for plan, _ in plans],
        None if reuse is None else Path(reuse),
    )
    for group in paths:
        forget(group[0])
    old = [_old(plan, reuse) for plan, _ in plans]
    kept = None if store is None else open_store(Path(store), create=True)
    require_space(
        (path, file.nbytes)
        for (plan, _), group in zip(plans, paths, strict=True)
        for file, path in zip(plan.files, group, strict=True)
    )
    sources = ChangedSources(model)
    handling: Handling = "allow" if nan == "keep" else nan
    with ExitStack() as stack:
        parts = _opened(stack, [plan for plan, _ in plans], paths, force=force, resume=resume)
        outputs = [(plan, group) for (plan, _), group in zip(plans, parts, strict=True)]
        left = None
        if resume:
            left = stack.enter_context(Resume(outputs, nan=handling, progress=progress, keep=keep))
        else:
            for named in paths:  # what it said of the part isn't true any more
                journal_path(named[0]).unlink(missing_ok=True)
        jobs = [
            job
            for number, (plan, group) in enumerate(outputs)
            for job in _jobs(plan, group, number, old[number], left)
        ]
        compile_seconds = compile_kernels(
            [job.assignment for job in jobs], registry, progress.compiling, ReadAhead(model.files)
        )
        compiled = time.perf_counter()
        stream = Stream(model, jobs, registry, threads=threads, nan=handling, progress=progress, store=kept)
        progress.start(stream.weights)
        stream.run()
        unchecked = _settled(model.files, left)
        _require_unchanged(sources, stream.sources, left)
        for (plan, files), written, remarked in zip(outputs, stream.written, stream.remarked, strict=True):
            write_headers(plan, files, stream.sources, written, remarked)
        if left is not None:
            left.written()
        give_names([part for group in parts for part in group])
        seconds = time.perf_counter() - compiled
    return [
        Result(
            paths=tuple(group),
            nbytes=plan.nbytes,
            threads=threads,
            seconds=seconds,
            compile_seconds=compile_seconds,
            read=stream.read,
            hashes={a.tensor.name: stream.sources[a.owner or a.tensor.name] for a in plan.assignments},
            nonfinite=stream.nonfinite[number],
            remarks=stream.remarks[number],
            reused=tuple(stream.reused[number]),
            from_store=tuple(stream.from_store[number]),
            store_problems=() if kept is None else tuple(kept.problems),
            left=stream.left[number],
            differing=tuple(stream.differing),
            unchecked=tuple(unchecked),
        )
        for number, ((plan, _), group) in enumerate(zip(plans, paths, strict=True))
    ]


def output_paths(path: Path, shards: int) -> list[Path]:
    """The path itself, or those of the shards: `NAME-00001-of-00003.gguf`, as gguf-split names them."""
    if path.name in ("", ".."):
        raise OutputError(f"{path} is a folder", "name a file with -o FILE")
    if shards == 1:
        return [path]
    stem = path.name.removesuffix(".gguf")
    return [path.with_name(f"{stem}-{number:05d}-of-{shards:05d}.gguf") for number in range(1, shards + 1)]


def checked_outputs(plan: Plan, out: Path, *, force: bool) -> list[Path]:
    """The paths of an output that others help to make; what can be refused without reading weights is refused."""
    plan.model.require_weights("plan with it, and give apply the model itself")
    require_statistics(plan)
    paths = output_paths(out, len(plan.files))
    check_paths(paths, [plan], None)
    for path in paths:
        check_destination(path, force=force)
    return paths


def _opened(
    stack: ExitStack, plans: Sequence[Plan], paths: Sequence[Sequence[Path]], *, force: bool, resume: bool
) -> list[list[PartFile]]:
    """The parts of all outputs. Where one of them can't be had, what an earlier run has left of the others stays."""
    parts: list[list[PartFile]] = []
    try:
        for plan, group in zip(plans, paths, strict=True):
            parts.append([])
            for file, path in zip(plan.files, group, strict=True):
                part = PartFile(path, file.nbytes, force=force, keep=resume)
                parts[-1].append(stack.enter_context(part))
    except BaseException:
        for part in (part for group in parts for part in group if part.left):
            part.keep()
        raise
    return parts


def _settled(files: Sequence[Path], left: Resume | None) -> list[Path]:
    """The files on the hub of which it can't be told whether what was read is right. ModelError where it isn't."""
    try:
        unchecked = settle(files)
    except ModelError:
        if left is not None:  # what was made of it can't be relied on, and isn't read again
            left.void()
        raise
    if left is None or not left.before:
        return unchecked
    # What an earlier run has read wasn't checked when it was killed, and is checked now only if it was read again.
    return [path for path in files if remote_file(path) is not None]


def _require_unchanged(sources: ChangedSources, digests: Mapping[str, str], left: Resume | None) -> None:
    """ModelError where the model's files aren't what they were: what was made of them is a mixture."""
    try:
        sources.require_none(digests)
    except ModelError:
        if left is not None:
            left.void()
        raise


def _jobs(
    plan: Plan,
    parts: Sequence[PartFile],
    number: int,
    old: Mapping[str, OldTensor],
    left: Resume | None,
) -> Iterator[Job]:
    """What has to be done for the plan, which is the output of this number."""
    place = count()
    for file, part in zip(plan.files, parts, strict=True):
        for a in file.assignments:
            made, line = old.get(a.tensor.name), next(place)
            yield Job(
                assignment=a,
                sink=part,
                importance=plan.importance,
                statistics=plan.statistics,
                output=number,
                old=made if made is not None and made.encoding == a.encoding else None,
                entry=None if left is None else left.entry(number, line, part),
            )


def _old(plan: Plan, reuse: str | Path | None) -> dict[str, OldTensor]:
    if reuse is None:
        return {}
    return read_old_tensors(Path(reuse), {a.tensor.name: a.nbytes for a in plan.assignments})
