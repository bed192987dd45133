"""assemble: the file of a plan, made of the pieces that several processes have made.

Each piece is held against its hashes while it is copied. What is damaged is named and made again, and what is missing
is made, too. The file is the one that `apply_plan` writes, to the byte; the pieces are removed when it has its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import xxhash

from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import OutputError
from quantrecipe.output.apply import Result, checked_outputs
from quantrecipe.output.headers import write_headers
from quantrecipe.output.naming import give_names
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.shares.folder import Pieces, open_pieces, pieces_path
from quantrecipe.output.shares.leases import Leases
from quantrecipe.output.shares.make import MadeRange, MadeUnit, Maker
from quantrecipe.output.shares.part import Shift, require_room
from quantrecipe.output.shares.piece import read_piece
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.output.space import require_space
from quantrecipe.output.store.store import open_store
from quantrecipe.output.transform import Handling, Nan
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.wording import some_of

__all__ = ["Damaged", "Gathered", "assemble", "whole"]

_CHUNK = 4 << 20  # bytes that are read and written in one go
_SHOWN = 3

Damaged: TypeAlias = "list[tuple[Path, str]]"
"""Pieces that haven't the bytes that were written to them, and what is wrong with each."""


@dataclass(slots=True)
class Gathered:
    """What is known of a plan's tensors from the units that were made.

    ranges:  by tensor: the piece, and where in it
    sources: by tensor, the hash of what it was made from
    """

    ranges: dict[str, list[tuple[Path, MadeRange]]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    remarked: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, path: Path, made: MadeUnit) -> None:
        """Take note of a unit."""
        for it in made.ranges:
            self.ranges.setdefault(it.tensor, []).append((path, it))
        self.sources |= made.sources

    def settle(self) -> None:
        """Put together what is known of the tensors that were made in several ranges."""
        for name, found in self.ranges.items():
            ranges = [it for _, it in found]
            if ranges[0].source:
                self.sources[name] = ranges[0].source
            said = dict(pair for it in ranges for pair in it.said)
            remarked = len(said) or ranges[0].remarked
            remarks = tuple(dict.fromkeys(said[number] for number in sorted(said))) or ranges[0].remarks
            if lost := sum(it.lost for it in ranges):
                self.lost[name] = lost
            if remarked:
                self.remarked[name] = remarked
            if remarks:
                self.remarks[name] = remarks


def assemble(
    plan: Plan,
    out: str | Path,
    *,
    make: bool = True,
    registry: Registry | None = None,
    threads: int | None = None,
    force: bool = False,
    nan: Nan = "error",
    store: str | Path | None = None,
    pieces: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Write `out` from its pieces, and remove them.

    make: wait for what others are at, and make what nobody is at; else OutputError where something is missing
    Others, and errors, as in `make_part` and `apply_plan`. `Result.differing` has the tensors of damaged pieces.
    """
    out = Path(out)
    registry = registry or load_registry()
    progress = progress or Silent()
    threads = threads or usable_processors()
    handling: Handling = "allow" if nan == "keep" else nan
    paths = checked_outputs(plan, out, force=force)
    folder = Path(pieces) if pieces is not None else pieces_path(out)
    found = open_pieces(folder, plan, nan=handling, create=False)
    require_space((path, file.nbytes) for file, path in zip(plan.files, paths, strict=True))
    kept = None if store is None else open_store(Path(store), create=True)
    begin = time.perf_counter()
    with ExitStack() as stack:
        parts = [
            stack.enter_context(PartFile(path, file.nbytes, force=force))
            for file, path in zip(plan.files, paths, strict=True)
        ]
        maker = Maker(plan, registry, threads=threads, nan=handling, progress=progress, store=kept)
        shift = Shift(found, maker, progress, "assemble")
        stack.callback(shift.close)
        places = {
            a.tensor.name: (part, a)
            for file, part in zip(plan.files, parts, strict=True)
            for a in file.assignments
        }
        progress.start(sum(unit.size for unit in found.units))
        gathered, result = whole(
            plan,
            found,
            shift,
            lambda it: _copy(it, places, threads, progress),
            make=make,
            registry=registry,
            progress=progress,
        )
        write_headers(plan, parts, gathered.sources, gathered.written, gathered.remarked)
        give_names(parts)
    found.remove()
    return replace(
        result,
        paths=tuple(paths),
        threads=threads,
        seconds=time.perf_counter() - begin - result.compile_seconds,
        store_problems=() if kept is None else tuple(kept.problems),
    )


def whole(
    plan: Plan,
    found: Pieces,
    shift: Shift,
    use: Callable[[Gathered], Damaged],
    *,
    make: bool,
    registry: Registry,
    progress: Progress,
) -> tuple[Gathered, Result]:
    """Have all pieces used, once the missing ones are made. If some turn out to be damaged, all over again.

    use: does with them what is to be done, and says which are damaged
    OutputError for what is missing or damaged where nothing is to be made. Of the result, times and where the bytes
    went are for the caller to say.
    """
    damaged: list[str] = []
    unchecked: tuple[Path, ...] = ()
    compiled = 0.0
    while True:
        if missing := _missing(found):
            if not make:
                raise _incomplete(found, missing)
            require_room(found)
            compiled += compile_kernels(plan.assignments, registry, progress.compiling)
            shift.run(missing, to_the_end=True)
            unchecked = shift.settled(plan.model.files)
        gathered, wrong = _gather(found)
        if not wrong:
            gathered.settle()
            wrong = use(gathered)
        if not wrong:
            break
        damaged += _remove_damaged(found, wrong, make)
    return gathered, Result(
        paths=(),
        nbytes=plan.nbytes,
        threads=0,
        seconds=0.0,
        compile_seconds=compiled,
        read=shift.read,
        hashes={a.tensor.name: gathered.sources[a.owner or a.tensor.name] for a in plan.assignments},
        nonfinite=gathered.lost,
        remarks=gathered.remarks,
        reused=(),
        from_store=tuple(shift.from_store),
        differing=tuple(damaged),
        unchecked=unchecked,
    )


def _missing(pieces: Pieces) -> list[WorkUnit]:
    """Those that have no piece."""
    made = pieces.made()
    return [unit for unit in pieces.units if unit.number not in made]


def _incomplete(pieces: Pieces, missing: Sequence[WorkUnit]) -> OutputError:
    """What to raise where these units are missing, and nobody is to make them."""
    leases = Leases(pieces.folder, "")
    try:
        who = {lease.who for unit in missing if (lease := leases.seen(unit.number)) and not lease.expired}
    finally:
        leases.close()
    names = some_of([unit.what for unit in missing], _SHOWN)
    at = f"; {some_of(sorted(who), _SHOWN)} still at work" if who else ""
    return OutputError(
        f"{len(missing)} of {len(pieces.units)} units are missing in {pieces.folder}: {names}{at}",
        "run parts that make them, or leave out --no-make to have them made now",
    )


def _gather(pieces: Pieces) -> tuple[Gathered, Damaged]:
    """What the pieces say of themselves; and of those that can't be used, why."""
    gathered, wrong = Gathered(), []
    for unit in pieces.units:
        path = pieces.path(unit.number)
        try:
            made = read_piece(path, pieces.run)
        except OSError as error:
            wrong.append((path, f"can't be read: {error.strerror or error}"))
            continue
        if made is None or made.number != unit.number:
            wrong.append((path, "isn't as it was written"))
        else:
            gathered.add(path, made)
    for found in gathered.ranges.values():
        found.sort(key=lambda it: it[1].start)
    return gathered, wrong


def _copy(
    gathered: Gathered,
    places: Mapping[str, tuple[PartFile, Assignment]],
    threads: int,
    progress: Progress,
) -> Damaged:
    """Write all tensors; of pieces that have other bytes than they say, which and why."""

    def copy(name: str) -> Damaged:
        part, a = places[name]
        whole, at, wrong = xxhash.xxh3_128(), a.offset, []
        for path, it in gathered.ranges[name]:
            try:
                same = _copy_range(path, it, part, at, whole)
            except OSError as error:
                wrong.append((path, f"can't be read: {error.strerror or error}"))
            else:
                if not same:
                    wrong.append((path, f"has other bytes of {name} than were written"))
            at += it.nbytes
        gathered.written[name] = whole.hexdigest()
        return wrong

    progress.start(sum(a.tensor.size for _, a in places.values()))
    wrong = []
    with ThreadPoolExecutor(threads, "assemble") as pool:
        for name, found in zip(places, pool.map(copy, places), strict=True):
            a = places[name][1]
            progress.tensor(a.tensor, (a.type,))
            progress.advance(a.tensor.size, a.nbytes, a.nbytes)
            wrong += found
    return wrong


def _copy_range(path: Path, made: MadeRange, part: PartFile, at: int, whole: xxhash.xxh3_128) -> bool:
    digest, left = xxhash.xxh3_128(), made.nbytes
    with path.open("rb", buffering=0) as file:
        file.seek(made.offset)
        while left:
            data = file.read(min(_CHUNK, left))
            if not data:
                return False
            digest.update(data)
            whole.update(data)
            part.write(memoryview(data), at)
            at, left = at + len(data), left - len(data)
    return digest.hexdigest() == made.data


def _remove_damaged(pieces: Pieces, wrong: Iterable[tuple[Path, str]], make: bool) -> list[str]:
    """Have damaged pieces made again; the names of their first tensors."""
    by_path = dict(wrong)
    if not make:
        path, what = next(iter(by_path.items()))
        raise OutputError(f"{path} {what}", "remove it, and leave out --no-make to have it made again")
    units = {pieces.path(unit.number): unit for unit in pieces.units}
    for path in by_path:
        with suppress(FileNotFoundError):
            path.unlink()
    return [units[path].what for path in by_path]
