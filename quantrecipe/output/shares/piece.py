"""Pieces: what a unit became, as a file that is complete under its name, or not there.

    the bytes of the unit (make.py) | \\n | XXH3-64 of the JSON, the JSON: a MadeUnit and the run's digest | \\n

The line stands last, since what it says is known last. Each range has the hash of its bytes, which whoever reads them
compares.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xxhash

from quantrecipe.output.at_offset import write_all
from quantrecipe.output.shares.make import MadeRange, MadeUnit
from quantrecipe.output.write_errors import write_error
from quantrecipe.whole_file import sync_folder

__all__ = ["NewPiece", "read_piece", "said_of", "unit_of"]

_LONGEST = 1 << 24  # bytes of the line: hundreds of small tensors, or remarks on as many experts


class NewPiece:
    """A piece on its way, under a name of its own. A Sink, and a context manager that removes what isn't finished."""

    def __init__(self, path: Path) -> None:
        """OutputError where it can't be written."""
        self.path = path
        self._new = path.with_name(f"new-{os.getpid()}-{secrets.token_hex(8)}")
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        for name in ("O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, name, 0)
        try:
            self._fd = os.open(self._new, flags, 0o666)
        except OSError as error:
            raise write_error(error, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            self._close()
            with suppress(OSError):
                self._new.unlink()

    def write(self, data: memoryview, offset: int) -> None:
        """Write at an offset of the unit; from any thread. OutputError where the disk is full."""
        try:
            write_all(self._fd, data, offset, self._lock)
        except OSError as error:
            raise write_error(error, self.path) from error

    def finish(self, made: MadeUnit, run: str) -> None:
        """Have it on the disk, and give it its name. Another process's piece of the unit is the same, and replaced."""
        self.write(memoryview(_footer(made, run)), made.nbytes)
        try:
            os.fsync(self._fd)
            self._close()  # Windows renames no open file
            self._new.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                self._new.unlink()
            raise write_error(error, self.path) from error

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def read_piece(path: Path, run: str) -> MadeUnit | None:
    """What a piece says of itself; None where it is damaged, or of another run. OSError passes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = max(0, size - _LONGEST)
        file.seek(begin)
        end = file.read(_LONGEST)
    place = end.rfind(b"\n", 0, -1)
    digest, _, text = end[place + 1 : -1].partition(b" ")
    if place < 0 or end[-1:] != b"\n" or digest != xxhash.xxh3_64_hexdigest(text).encode():
        return None
    said: dict[str, Any] = json.loads(text)  # what was written
    if said.pop("run") != run or said["nbytes"] != begin + place:
        return None
    return unit_of(said)


def said_of(made: MadeUnit) -> dict[str, Any]:
    """A unit as plain data."""
    said = {name: getattr(made, name) for name in MadeUnit.__slots__}
    said["ranges"] = [{name: getattr(it, name) for name in MadeRange.__slots__} for it in made.ranges]
    return said


def unit_of(said: Mapping[str, Any]) -> MadeUnit:
    """A unit of what `said_of` has made of it, and JSON has kept."""
    ranges = tuple(
        MadeRange(
            **it
            | {"remarks": tuple(it["remarks"]), "said": tuple((number, text) for number, text in it["said"])}
        )
        for it in said["ranges"]
    )
    sources = tuple((name, digest) for name, digest in said["sources"])
    lists = {name: tuple(said[name]) for name in ("from_store", "problems")}
    return MadeUnit(**{**said, **lists, "ranges": ranges, "sources": sources})


def _footer(made: MadeUnit, run: str) -> bytes:
    text = json.dumps(said_of(made) | {"run": run}).encode()
    return b"\n" + xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"
