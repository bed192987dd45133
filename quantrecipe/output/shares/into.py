"""Into: where what workers make of a unit goes. It travels with the order, and is opened where the worker is.

    IntoPieces   a file of its own, in a folder that all machines see
    IntoFiles    the files of the output, but for parts of them to which others write as well

What belongs to such parts is returned; a worker that doesn't see the files returns everything.
"""

from __future__ import annotations

import os
import platform
import secrets
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.errors import OutputError
from quantrecipe.output.at_offset import write_all
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.shares.layout import Layout, Segment, UnitLayout
from quantrecipe.output.shares.make import MadeUnit, Maker
from quantrecipe.output.shares.piece import NewPiece
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.output.write_errors import write_error
from quantrecipe.plan.plan import Plan

__all__ = ["Delivered", "Into", "IntoFiles", "IntoPieces", "UnitSink", "into_files"]

_PART_BYTES = 1 << 20
_TOKEN_BYTES = 16  # a GGUF's header has more than that

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """What a worker made of a unit, and what of its bytes isn't where it goes yet.

    edges:  the bytes of the unit's edges, one after the other
    digest: XXH3-128 of them, in hex
    placed: the rest is where it goes; False where the edges are everything
    """

    made: MadeUnit
    edges: NDArray[np.uint8]
    digest: str
    placed: bool

    @property
    def sound(self) -> bool:
        """The edges came here as they were made."""
        return xxhash.xxh3_128_hexdigest(self.edges.data) == self.digest


Making = Callable[[WorkUnit, Maker], MadeUnit | Delivered]


class Into(ABC):
    """Where it goes; picklable."""

    @abstractmethod
    def open(self, plan: Plan) -> Making:
        """What makes units there. To be called where the worker is."""


class UnitSink:
    """The bytes of a unit on their way: a Sink.

    put:   gets what is the unit's alone, with its place in the files; from any thread
    edges: the bytes of its edges
    """

    def __init__(self, layout: UnitLayout, put: Callable[[Segment, memoryview], None]) -> None:
        self._layout, self._put = layout, put
        # An array is pickled without a copy by those who know how (protocol 5).
        self.edges: NDArray[np.uint8] = np.zeros(layout.edge_bytes, np.uint8)

    def write(self, data: memoryview, offset: int) -> None:
        data = data.cast("B")
        for segment, edge in self._layout.regions(offset, len(data)):
            piece, data = data[: segment.nbytes], data[segment.nbytes :]
            if edge is None:
                self._put(segment, piece)
            else:
                self.edges[edge : edge + segment.nbytes] = np.frombuffer(piece, np.uint8)

    def delivered(self, made: MadeUnit, *, placed: bool) -> Delivered:
        """To be asked when all is written."""
        digest = xxhash.xxh3_128_hexdigest(self.edges.data)
        return Delivered(made=made, edges=self.edges, digest=digest, placed=placed)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntoPieces(Into):
    """folder: the pieces. run: the digest of what they are of"""

    folder: Path
    run: str

    def open(self, plan: Plan) -> Making:
        def make(unit: WorkUnit, maker: Maker) -> MadeUnit:
            with NewPiece(self.folder / f"{unit.number:06d}.piece") as piece:
                made = maker.make(unit, piece)
                piece.finish(made, self.run)
            return made

        return make


@dataclass(frozen=True, kw_only=True, slots=True)
class IntoFiles(Into):
    """The parts of a plan's files, which the command that has the order made holds.

    paths:   their absolute paths
    token:   with what each of them begins until the headers are written, so a worker knows that it sees them
    system:  by what the command's system knows the files: the machine, as it was started, and each file there
    part_bytes: of the parts of files to each of which one machine writes: more than pages and blocks of any file system
    """

    paths: Sequence[Path]
    token: bytes
    system: tuple[str, Sequence[tuple[int, int]]]
    part_bytes: int

    def layout(self, plan: Plan, *, placed: bool) -> Layout:
        """How units lie in the files. placed: as in Delivered; else all of their bytes are edges."""
        return Layout(plan, self.part_bytes if placed else max(file.nbytes for file in plan.files) + 1)

    def open(self, plan: Plan) -> Making:
        files = _Files.seen(self)
        layout = self.layout(plan, placed=files is not None)

        def make(unit: WorkUnit, maker: Maker) -> Delivered:
            sink = UnitSink(layout.of(unit), _nowhere if files is None else files.put)
            made = maker.make(unit, sink)
            if files is not None:
                files.settle()
            return sink.delivered(made, placed=files is not None)

        return make


def into_files(parts: Sequence[PartFile]) -> IntoFiles:
    """Have workers write to parts whose headers aren't written yet. OutputError where the disk can't."""
    token = secrets.token_bytes(_TOKEN_BYTES)
    for part in parts:
        part.write(memoryview(token), 0)
        part.sync()  # a server has it
    paths = [part.part.resolve() for part in parts]
    system = _machine(), [part.node for part in parts]
    return IntoFiles(paths=paths, token=token, system=system, part_bytes=_PART_BYTES)


class _Files:
    """The parts of files, open where a worker is."""

    def __init__(self, fds: Sequence[int], into: IntoFiles) -> None:
        self._fds, self._paths, self._token = fds, into.paths, into.token
        self._lock = Lock()
        status = [os.fstat(fd) for fd in fds]
        # One system's memory is behind both then, and the command has it put on the disk.
        self._settled = into.system == (_machine(), [(it.st_dev, it.st_ino) for it in status])
        weakref.finalize(self, _close, fds)

    @classmethod
    def seen(cls, into: IntoFiles) -> _Files | None:
        """None where these files can't be opened here, or are others."""
        if os.name == "nt":  # who writes to a file there keeps it from being renamed
            return None
        fds: list[int] = []
        try:
            for path in into.paths:
                fds.append(
                    os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
                )
                if os.pread(fds[-1], len(into.token), 0) != into.token:
                    raise FileNotFoundError
        except OSError:
            _close(fds)
            return None
        return cls(fds, into)

    def put(self, segment: Segment, data: memoryview) -> None:
        """OutputError where it can't be written, and where the file isn't unfinished any more.

        A worker that was stopped for an hour may go on when somebody has put other bytes into the finished file.
        """
        try:
            if os.pread(self._fds[segment.file], len(self._token), 0) != self._token:
                path = self._paths[segment.file]
                raise OutputError(
                    f"{path} was finished or given up meanwhile",
                    "nothing has to be done: another worker made this",
                )
            write_all(self._fds[segment.file], data, segment.begin, self._lock)
        except OSError as error:
            raise write_error(error, self._paths[segment.file]) from error

    def settle(self) -> None:
        """Others can rely on what was written."""
        if self._settled:
            return
        for fd, path in zip(self._fds, self._paths, strict=True):
            try:
                os.fsync(fd)
            except OSError as error:
                raise write_error(error, path) from error


def _nowhere(segment: Segment, data: memoryview) -> None:
    raise OutputError(f"bytes {segment.begin:,} to {segment.end:,} of a file are nobody's edge")


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _machine() -> str:
    """The machine that this process runs on, until it is started anew."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return platform.node()
