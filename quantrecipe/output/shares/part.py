"""make_part: one of several processes, on any machines, that make a plan's pieces on a folder that all of them see.

Each begins with the units of its share, which lie together in the model's files, the largest first. When these are
made, it takes units of others from the end of their shares. It ends when every unit is made, or is at a process that
gives signs of life; a process that doesn't is waited for until its lease is over, and its unit is made then.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import ModelError, OutputError
from quantrecipe.output.apply import checked_outputs
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.shares.folder import Pieces, open_pieces, pieces_path
from quantrecipe.output.shares.leases import Leases
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.piece import NewPiece
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.output.store.store import open_store
from quantrecipe.output.transform import Handling, Nan
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.remote_files import settle
from quantrecipe.units import bytes_text

__all__ = [
    "Left",
    "Part",
    "PartResult",
    "Shift",
    "make_part",
    "order_of_units",
    "require_room",
    "share_of",
    "shares_of",
]

_FIRST_LOOK_SECONDS, _LONGER, _LOOK_SECONDS = 0.05, 1.5, 1.0
"""Between two looks at the folder while there is nothing to do: at first, how it grows, and in the end."""

_LOOKED_AT_SECONDS = 0.05
"""For each unit that is looked at: a hundred processes that wait for a hundred units ask 2,000 times a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Which of how many: 3/40. Both count from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """A unit that isn't made, and who is at it."""

    unit: WorkUnit
    who: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PartResult:
    """What a part came to.

    units:   of the whole plan
    made:    those that this part made; taken: those among them that weren't of its share
    left:    what others are at
    read:    bytes read
    """

    part: Part
    folder: Path
    units: int
    made: tuple[WorkUnit, ...]
    taken: int
    left: tuple[Left, ...]
    threads: int
    seconds: float
    compile_seconds: float
    read: int
    from_store: tuple[str, ...] = ()
    store_problems: tuple[str, ...] = ()
    unchecked: tuple[Path, ...] = ()


def make_part(
    plan: Plan,
    out: str | Path,
    part: Part,
    *,
    registry: Registry | None = None,
    threads: int | None = None,
    force: bool = False,
    nan: Nan = "error",
    store: str | Path | None = None,
    pieces: str | Path | None = None,
    progress: Progress | None = None,
    nbytes: int | None = None,
) -> PartResult:
    """Make what one of several processes makes of a plan's pieces; `assemble` makes the file `out` of them.

    pieces: the folder of the pieces, which all processes see. None: OUT.quantrecipe-pieces
    nbytes: of a unit, where this part comes first. None: what is best for the number of parts
    Others, and errors, as in `apply_plan`. OutputError where the folder has pieces of something else, too.
    """
    out = Path(out)
    registry = registry or load_registry()
    progress = progress or Silent()
    threads = threads or usable_processors()
    require_part(part)
    checked_outputs(plan, out, force=force)
    handling: Handling = "allow" if nan == "keep" else nan
    folder = Path(pieces) if pieces is not None else pieces_path(out)
    found = open_pieces(folder, plan, nan=handling, workers=part.count, nbytes=nbytes)
    require_room(found)
    kept = None if store is None else open_store(Path(store), create=True)
    compile_seconds = compile_kernels(plan.assignments, registry, progress.compiling)
    begin = time.perf_counter()
    progress.start(sum(unit.size for unit in found.units))
    maker = Maker(plan, registry, threads=threads, nan=handling, progress=progress, store=kept)
    shift = Shift(found, maker, progress, f"part {part}")
    try:
        left = shift.run(order_of_units(found.units, part))
    finally:
        shift.close()
    own = {unit.number for unit in share_of(found.units, part)}
    return PartResult(
        part=part,
        folder=folder,
        units=len(found.units),
        made=tuple(shift.made),
        taken=sum(unit.number not in own for unit in shift.made),
        left=tuple(left),
        threads=threads,
        seconds=time.perf_counter() - begin,
        compile_seconds=compile_seconds,
        read=shift.read,
        from_store=tuple(shift.from_store),
        store_problems=() if kept is None else tuple(kept.problems),
        unchecked=shift.settled(plan.model.files),
    )


class Shift:
    """A process at work on a folder of pieces.

    made:       units that it has made
    read:       bytes that it has read for them
    from_store: tensors that it has copied from a store
    """

    def __init__(self, pieces: Pieces, maker: Maker, progress: Progress, who: str) -> None:
        self.made: list[WorkUnit] = []
        self.read = 0
        self.from_store: list[str] = []
        self._pieces, self._maker, self._progress = pieces, maker, progress
        self._leases = Leases(
            pieces.folder, f"{who} on {platform.node()} (process {os.getpid()})", pieces.lease_seconds
        )
        self._seen: set[int] = set()
        self._never = threading.Event()

    def close(self) -> None:
        """Leave nothing but pieces."""
        self._leases.close()

    def run(self, units: Sequence[WorkUnit], *, to_the_end: bool = False) -> list[Left]:
        """Make what nobody else makes; what is left, and who is at it.

        to_the_end: wait until everything is made
        """
        while True:
            missing = self._missing(units)
            if not missing:
                return []
            # One at a time: meanwhile others have made some, which is progress, and needn't be looked at.
            if not any(self._make(unit) for unit in missing) and not self._wait(missing, to_the_end):
                return self._left(self._missing(units))

    def settled(self, files: Sequence[Path]) -> tuple[Path, ...]:
        """The files on the hub of which it can't be told whether what was read is right.

        ModelError where it isn't. What was made of it is removed then.
        """
        try:
            return tuple(settle(files)) if self.made else ()
        except ModelError:
            for unit in self.made:
                self._pieces.path(unit.number).unlink(missing_ok=True)
            raise

    def _missing(self, units: Sequence[WorkUnit]) -> list[WorkUnit]:
        """Those that have no piece. What others have made is progress, too."""
        made = self._pieces.made()
        new = made - self._seen
        self._seen |= new
        if weights := sum(unit.size for unit in self._pieces.units if unit.number in new):
            self._progress.advance(weights, 0, 0)
        return [unit for unit in units if unit.number not in made]

    def _make(self, unit: WorkUnit) -> bool:
        """Make a unit, unless somebody else does or has."""
        path = self._pieces.path(unit.number)
        if path.exists():
            return False
        with self._leases.take(unit.number) as ours:
            if not ours or path.exists():
                return False
            with NewPiece(path) as piece:
                made = self._maker.make(unit, piece)
                piece.finish(made, self._pieces.run)
        self._seen.add(unit.number)
        self.made.append(unit)
        self.read += made.read
        self.from_store += made.from_store
        return True

    def _wait(self, missing: Sequence[WorkUnit], to_the_end: bool) -> bool:
        """Wait for something to do: True; or until it is known that others live who are at the rest: False."""
        now = self._leases.now()
        first = {unit.number: self._leases.seen(unit.number, now) for unit in missing}
        silent, pause = dict(first), _FIRST_LOOK_SECONDS
        while silent or to_the_end:
            now = self._leases.now()
            for number in first:
                seen = self._leases.seen(number, now)
                if self._pieces.path(number).exists():
                    silent.pop(number, None)
                    if to_the_end:
                        return True
                elif seen is None or seen.expired:
                    return True
                elif seen != first[number]:
                    silent.pop(number, None)
            if silent or to_the_end:
                most = max(_LOOK_SECONDS, len(first) * _LOOKED_AT_SECONDS)
                pause = min(pause * _LONGER, most, self._leases.touch_seconds / 2)
                self._never.wait(pause)
        return False

    def _left(self, missing: Iterable[WorkUnit]) -> list[Left]:
        found = []
        for unit in missing:
            lease = self._leases.seen(unit.number)
            found.append(Left(unit=unit, who="nobody" if lease is None else lease.who))
        return found


def share_of(units: Sequence[WorkUnit], part: Part) -> list[WorkUnit]:
    """The units with which a part begins."""
    return shares_of(units, part.count)[part.number - 1]


def shares_of(units: Sequence[WorkUnit], count: int) -> list[list[WorkUnit]]:
    """The units with which each part begins: they lie together, and have as many bytes as those of others.

    The largest come first, so that what is left at the end is small.
    """
    total, before = sum(unit.nbytes for unit in units), 0
    shares: list[list[WorkUnit]] = [[] for _ in range(count)]
    for unit in units:
        middle = before + unit.nbytes / 2
        before += unit.nbytes
        shares[min(count - 1, int(count * middle / max(1, total)))].append(unit)
    return [sorted(share, key=lambda it: -it.nbytes) for share in shares]


def order_of_units(units: Sequence[WorkUnit], part: Part) -> list[WorkUnit]:
    """Its own share, and then those of the others, each from its end, since that is what its owner comes to last."""
    shares = shares_of(units, part.count)
    found = shares[part.number - 1]
    for more in range(1, part.count):
        found = found + shares[(part.number - 1 + more) % part.count][::-1]
    return found


def require_part(part: Part) -> None:
    """OutputError for a part that there isn't."""
    if not 1 <= part.number <= part.count:
        raise OutputError(
            f"there is no part {part}",
            f"parts are counted from 1: 1/{part.count} to {part.count}/{part.count}",
        )


def require_room(pieces: Pieces) -> None:
    """OutputError where the disk has no room for the pieces that are missing."""
    made = pieces.made()
    missing = sum(unit.made_bytes for unit in pieces.units if unit.number not in made)
    begun = sum(path.stat().st_size for path in pieces.folder.glob("new-*") if path.exists())
    free = shutil.disk_usage(pieces.folder).free
    if free < missing - begun:
        raise OutputError(
            f"the pieces that are missing need {bytes_text(missing - begun)}, and {pieces.folder.resolve()} has "
            f"{bytes_text(free)} free",
            "free some space, or name a folder on another disk with --pieces",
        )
