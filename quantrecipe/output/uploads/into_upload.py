"""IntoUpload: workers send the parts of an upload that are theirs alone, and return what they have of others.

A part is sent when all of it is made, while the worker makes what comes next. So a worker holds the parts that its
threads are at, and some that are on their way, however large the unit is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from quantrecipe.output.shares.into import Delivered, Into, Making, UnitSink
from quantrecipe.output.shares.layout import Layout, PartPlace, Segment, UnitLayout
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.output.uploads.multipart import Multipart, SentPart
from quantrecipe.plan.plan import Plan

__all__ = ["IntoUpload", "UploadedUnit"]

_AT_ONCE = 4
"""Connections of a worker."""
_WAITING = 4
"""Parts that are made and wait for a connection; then who makes more waits, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadedUnit(Delivered):
    """parts: that were sent"""

    parts: tuple[tuple[int, SentPart], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class IntoUpload(Into):
    """uploads: that were begun, one for each file of the plan. part_bytes: of their parts"""

    uploads: Sequence[Multipart]
    part_bytes: int

    def open(self, plan: Plan) -> Making:
        layout = Layout(plan, self.part_bytes)

        def make(unit: WorkUnit, maker: Maker) -> UploadedUnit:
            try:
                return self._made(unit, maker, layout, from_store=True)
            except _WrittenTwiceError:
                return self._made(unit, maker, layout, from_store=False)

        return make

    def _made(self, unit: WorkUnit, maker: Maker, layout: Layout, *, from_store: bool) -> UploadedUnit:
        with _Parts(self.uploads, layout, layout.of(unit)) as parts:
            sink = UnitSink(parts.of, parts.put)
            made = maker.make(unit, sink, from_store=from_store)
            sent = parts.settle()
        done = sink.delivered(made, placed=True)
        return UploadedUnit(made=made, edges=done.edges, digest=done.digest, placed=True, parts=sent)


class _WrittenTwiceError(Exception):
    """What came out of a store was damaged, so that a tensor is written once more; but parts with it may be sent."""


class _Parts:
    """The parts that are a unit's alone. A context manager: none is sent any more when it ends."""

    def __init__(self, uploads: Sequence[Multipart], layout: Layout, of: UnitLayout) -> None:
        self.of = of
        self._uploads, self._layout = uploads, layout
        self._lock = threading.Lock()
        self._room = threading.Semaphore(_AT_ONCE + _WAITING)
        self._pool = ThreadPoolExecutor(_AT_ONCE, "send")
        self._sent: list[tuple[int, Future[SentPart]]] = []
        self._buffers: dict[PartPlace, bytearray] = {}
        self._left = {layout.place(part): 0 for own in of.own for part in layout.by_part(own)}
        for made in of.placed():
            for piece in layout.by_part(made):
                if (place := layout.place(piece)) in self._left:
                    self._left[place] += piece.nbytes

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put(self, segment: Segment, data: memoryview) -> None:
        """Bytes of these parts, from any thread. Waits as long as many parts wait; raises what sending raised."""
        for piece in self._layout.by_part(segment):
            self._put(piece, data[: piece.nbytes])
            data = data[piece.nbytes :]

    def settle(self) -> tuple[tuple[int, SentPart], ...]:
        """Wait until all are sent. OutputError where one can't be."""
        for place in [place for place, left in self._left.items() if not left]:
            self._send(place, self._buffer(place))  # nothing but what lies between tensors
        return tuple((file, future.result()) for file, future in self._sent)

    def _put(self, piece: Segment, data: memoryview) -> None:
        place = self._layout.place(piece)
        with self._lock:
            if self._left.get(place, 0) < piece.nbytes:
                raise _WrittenTwiceError
            buffer = self._buffer(place)
            begin = piece.begin % self._layout.part_bytes
            buffer[begin : begin + piece.nbytes] = data
            self._left[place] -= piece.nbytes
            done = not self._left[place]
            if done:
                del self._left[place], self._buffers[place]
        if done:
            self._send(place, buffer)

    def _buffer(self, place: PartPlace) -> bytearray:
        if place not in self._buffers:
            self._buffers[place] = bytearray(self._layout.part(*place).nbytes)
        return self._buffers[place]

    def _send(self, place: PartPlace, buffer: bytearray) -> None:
        file, number = place
        self._room.acquire()

        def send() -> SentPart:
            try:
                return self._uploads[file].send(number, buffer)
            finally:
                self._room.release()

        try:
            for _, future in self._sent:
                if future.done():
                    future.result()
        except BaseException:
            self._room.release()  # others wait for it, who are to be told as well
            raise
        with self._lock:
            self._sent.append((file, self._pool.submit(send)))
