"""upload_by: an executor's workers send what they make to an object store, and no machine holds the file as a whole.

A worker sends the parts of the file that its unit fills (`into_upload.py`). Of those that several units share, each
returns what it has; it is kept here until all of it is there, and sent from here. The header comes last, since it has
the hashes of all tensors. A tensor isn't cut: its hash is that of all of its bytes in their order, and nobody could
read them once more before the file has its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from quantrecipe.api import Executor
from quantrecipe.errors import ModelError, Problem, QuantrecipeError
from quantrecipe.executors.run_tasks import run_tasks
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.apply import Result
from quantrecipe.output.changed_sources import ChangedSources
from quantrecipe.output.headers import encoded_headers
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.resume import MET_AGAIN, Keep
from quantrecipe.output.run_key import run_key
from quantrecipe.output.shares.by_executor import Tally, require_as_made, tasks_of, tell
from quantrecipe.output.shares.layout import Layout, PartPlace, Segment
from quantrecipe.output.shares.order import order_of
from quantrecipe.output.shares.units import WorkUnit, cut, unit_bytes
from quantrecipe.output.space import require_space
from quantrecipe.output.transform import Handling, Nan
from quantrecipe.output.uploads.into_upload import IntoUpload
from quantrecipe.output.uploads.kept_parts import JOURNAL, KeptParts
from quantrecipe.output.uploads.multipart import Multipart, SentPart
from quantrecipe.output.uploads.sending import block_bytes
from quantrecipe.output.uploads.upload import Sent, compared, require_free
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.statistics import require_statistics
from quantrecipe.registry import Registry, load_registry
from quantrecipe.remote_files import settle

__all__ = ["upload_by"]

_AT_ONCE = 4
"""Connections over which shared parts are sent from here."""
_UNCUT = 1 << 62
"""Bytes of a tensor that is cut."""


def upload_by(
    executor: Executor,
    plan: Plan,
    addresses: Sequence[ObjectAddress],
    folder: Path,
    *,
    registry: Registry | None = None,
    force: bool = False,
    nan: Nan = "error",
    store: str | Path | None = None,
    progress: Progress | None = None,
    keep: Keep | None = None,
    nbytes: int | None = None,
) -> tuple[Result, tuple[Sent, ...]]:
    """Make the plan's files at these addresses, with the workers of an executor.

    addresses: one for each file; all of stores that take parts in any order (`takes_parts`)
    folder:    is there; what an interrupted run needs to go on lies there
    Others, and errors, as in `apply_by`. `Result.paths` are none.
    """
    registry = registry or load_registry()
    progress = progress or Silent()
    handling: Handling = "allow" if nan == "keep" else nan
    plan.model.require_weights("plan with it, and give apply the model itself")
    require_statistics(plan)
    layout = Layout(plan, block_bytes(max(file.nbytes for file in plan.files)))
    key = run_key(plan, nan=handling) | {"addresses": [str(it) for it in addresses]}
    sources, tally = ChangedSources(plan.model), Tally(plan)
    gathered = tally.gathered
    with ExitStack() as stack:
        kept = stack.enter_context(_Run(plan, folder, key, layout, progress, keep))
        if not kept.parts.uploads:
            kept.parts.begin(addresses)
        _require_free(kept.parts.uploads, force=force)
        into = IntoUpload(uploads=tuple(kept.parts.uploads), part_bytes=layout.part_bytes)
        order = order_of(
            plan, registry, nan=handling, store=None if store is None else Path(store), into=into
        )
        compiled = compile_kernels(plan.assignments, registry, progress.compiling)
        begin = time.perf_counter()
        with executor.open(order) as workers:
            width = workers.width
            if not kept.parts.cut:
                kept.parts.add_cut(nbytes or unit_bytes(plan, max(1, width)))
            units = cut(plan, kept.parts.cut, most=_UNCUT)
            kept.parts.settle(units)
            shared = stack.enter_context(_SharedParts(units, layout, kept.parts))
            require_space(
                [(folder / JOURNAL, shared.nbytes)],
                remedy="free some space, or start the command in a folder on another disk",
            )
            progress.start(sum(unit.size for unit in units))
            left = dict(kept.parts.made)
            for number, there in left.items():
                tally.add_left(units[number], there)
                progress.advance(units[number].size, there.nbytes, 0)
            missing = [unit for unit in units if unit.number not in left]
            for task, done in run_tasks(workers, tasks_of(missing), told=progress.told):
                require_as_made(task.given, done)
                kept.parts.add_unit(done)
                shared.made(task.given)
                tally.add(done.made)
                tell(plan, task.given, progress, done.made)
        gathered.settle()
        try:
            settle(plan.model.files)
            sources.require_none(gathered.sources)
        except ModelError:
            kept.void = True
            raise
        gathered.written |= {name: ranges[0][1].data for name, ranges in gathered.ranges.items()}
        shared.finish(encoded_headers(plan, gathered.sources, gathered.written, gathered.remarked))
        uploads = _uploads(kept.parts, layout)
        _complete(uploads, force=force)
    sent = tuple(_sent(upload, parts) for upload, parts in uploads)
    return tally.result((), width, seconds=time.perf_counter() - begin, compiled=compiled), sent


_Upload = tuple[Multipart, list[SentPart]]


def _uploads(kept: KeptParts, layout: Layout) -> list[_Upload]:
    """All uploads, with all of their parts."""
    return [
        (upload, [kept.parts[number, it] for it in layout.parts(number)])
        for number, upload in enumerate(kept.uploads)
    ]


def _require_free(uploads: Sequence[Multipart], *, force: bool) -> list[Multipart]:
    """The uploads that aren't complete. OutputError where something has the name of one of these, unless `force`."""
    waiting = [upload for upload in uploads if upload.listed() is not None]
    for upload in waiting:
        require_free(upload.address, force=force)
    return waiting


def _complete(uploads: Sequence[_Upload], *, force: bool) -> None:
    """Give all files their names, but those that have theirs from an earlier run. OutputError."""
    waiting = _require_free([upload for upload, _ in uploads], force=force)
    for upload, parts in uploads:
        if upload not in waiting and not upload.is_there(parts):
            raise upload.gone()
    for upload, parts in uploads:
        if upload in waiting:
            upload.complete(parts)


def _sent(upload: Multipart, parts: Sequence[SentPart]) -> Sent:
    """What is there, compared with what was sent."""
    nbytes = sum(part.nbytes for part in parts)
    return compared(upload.address, nbytes, lambda: upload.compared(parts))


class _Run:
    """What a run has done, and what of it stays when it ends before its time.

    void: what was made is a mixture, and nothing of it can stay
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        key: dict[str, object],
        layout: Layout,
        progress: Progress,
        keep: Keep | None,
    ) -> None:
        self._folder, self._progress, self._keep = folder, progress, keep
        self._size = plan.size
        self._sizes = {a.tensor.name: a.tensor.size for a in plan.assignments if a.owner is None}
        self.void = False
        self.parts = KeptParts(folder, key, layout)
        self._before = not self.parts.empty
        if self.parts.other:
            progress.started_over(folder, self.parts.other)
        if self._before:
            progress.resumed(folder, self.share)

    @property
    def share(self) -> float:
        """Of the weights, those of units that are done."""
        names = [it.tensor for made in self.parts.made.values() for it in made.ranges]
        return sum(self._sizes.get(name, 0) for name in names) / max(1, self._size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self._stays(error):
            self.parts.remove(give_up=error is not None)
            return
        self.parts.keep()
        if not isinstance(error, QuantrecipeError):
            self._progress.kept(self._folder, self.share)
            return
        said = Problem(
            what=f"{self.share:.0%} of the work is in the store, as parts without a name, which {self._folder} lists",
            remedy="the same command goes on with it; if you don't want that, remove the folder and, in the store, "
            "parts of uploads that were never completed",
        )
        error.problems = (*error.problems, said)
        error.args = ("\n".join(map(str, error.problems)),)

    def _stays(self, error: BaseException) -> bool:
        if self.void or self.parts.empty:
            return False
        if isinstance(error, KeyboardInterrupt):
            return self._before or (self._keep is not None and self._keep(self._folder, self.share))
        return not isinstance(error, MET_AGAIN)


@dataclass(slots=True)
class _Shared:
    """A part that several units have bytes of. pieces: (whose, its bytes, where among the edges of that unit)."""

    pieces: list[tuple[int, Segment, int]] = field(default_factory=list)
    left: set[int] = field(default_factory=set)


_HEADER = -1
"""Whose the bytes of a header are."""


class _SharedParts:
    """The parts that are sent from here, as soon as all units are done that have bytes of them.

    nbytes: of what units that aren't done yet will return of them, together
    """

    def __init__(self, units: Sequence[WorkUnit], layout: Layout, kept: KeptParts) -> None:
        self._layout, self._kept = layout, kept
        self._parts: dict[PartPlace, _Shared] = {}
        self._of: dict[int, set[PartPlace]] = {}
        self._headers: Sequence[bytes] = ()
        self._pool = ThreadPoolExecutor(_AT_ONCE, "send")
        self._sending: list[tuple[int, Future[SentPart]]] = []
        self.nbytes = 0
        for header in layout.headers:
            self._add(_HEADER, list(layout.by_part(header)))
        for unit in units:
            edges = layout.of(unit).edges
            if unit.number not in kept.made:
                self.nbytes += sum(edge.nbytes for edge in edges)
            self._add(unit.number, edges)
        for place in [place for place in self._parts if place in kept.parts]:
            self._is_sent(place)
        for number in kept.made:
            self._done(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def made(self, unit: WorkUnit) -> None:
        """A unit is done, and what it has of shared parts is kept. OutputError where one can't be sent."""
        self._done(unit.number)
        self._note(wait=False)

    def finish(self, headers: Sequence[bytes]) -> None:
        """All units are done: send what is left. OutputError."""
        self._headers = headers
        self._done(_HEADER)
        self._note(wait=True)

    def _add(self, whose: int, edges: Sequence[Segment]) -> None:
        at = 0
        for edge in edges:
            place = self._layout.place(edge)
            shared = self._parts.setdefault(place, _Shared())
            shared.pieces.append((whose, edge, at))
            shared.left.add(whose)
            self._of.setdefault(whose, set()).add(place)
            at += edge.nbytes

    def _done(self, whose: int) -> None:
        for place in list(self._of.get(whose, ())):
            shared = self._parts[place]
            shared.left.discard(whose)
            if not shared.left:
                send: Callable[[], SentPart] = lambda place=place: self._send(place)  # type: ignore[misc]  # noqa: E731
                self._sending.append((place[0], self._pool.submit(send)))

    def _send(self, place: PartPlace) -> SentPart:
        file, number = place
        part = self._layout.part(file, number)
        data = bytearray(part.nbytes)
        for whose, edge, at in self._parts[place].pieces:
            if whose == _HEADER:
                found = self._headers[file][edge.begin : edge.end]
            else:
                found = self._kept.edges(whose)[at : at + edge.nbytes]
            begin = edge.begin - part.begin
            data[begin : begin + len(found)] = found
        return self._kept.uploads[file].send(number, data)

    def _note(self, *, wait: bool) -> None:
        """Note what is sent by now, from this thread alone."""
        ended = [it for it in self._sending if wait or it[1].done()]
        for file, future in ended:
            part = future.result()
            self._kept.add_part(file, part)
            self._is_sent((file, part.number))
        self._sending = [it for it in self._sending if it not in ended]

    def _is_sent(self, place: PartPlace) -> None:
        """Nobody's bytes of it are needed any more."""
        for whose, _, _ in self._parts[place].pieces:
            places = self._of[whose]
            places.discard(place)
            if not places and whose != _HEADER:
                self._kept.remove_edges(whose)
