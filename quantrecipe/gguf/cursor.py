"""Cursor: a position in a file that is read no further than its content asks for.

The file is read in growing pieces, never mapped: a file cut short while it is read is an error and not a
crash. Every length is held against the size of the file before anything is allocated.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Never

from quantrecipe.errors import ModelError
from quantrecipe.remote_files import Sequential, remote_file

__all__ = ["Cursor", "open_cursor"]

_MAX_HEADER = 2**28  # thirty times the largest vocabulary in use: what a hostile file can make us hold
_FIRST_READ = 2**17  # bytes: all of a header without a vocabulary, and little of a file that is none
_AGAIN = "the file is damaged or incomplete: download it again"

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """Takes little-endian values off a file, one by one; `where` names what is being read, in errors."""

    __slots__ = ("_file", "at", "data", "path", "size", "where")

    def __init__(self, file: BinaryIO | Sequential, path: Path, size: int) -> None:
        self._file = file
        self.path = path
        self.size = size
        self.data = bytearray()
        self.at = 0
        self.where = "the header"

    def fail(self, what: str, remedy: str = _AGAIN) -> Never:
        """Raise a ModelError that names the file."""
        raise ModelError(what, remedy, file=self.path)

    def need(self, end: int) -> None:
        """Read on until `data` has the file's bytes up to `end`."""
        have = len(self.data)
        if end <= have:
            return
        if end > self.size:
            self.fail(f"{self.where} reaches beyond the end of the file ({self.size:,} bytes)")
        if end > _MAX_HEADER:
            self.fail(
                f"{self.where} would make the header larger than {_MAX_HEADER >> 20} MiB, the most that is read",
                "if it is meant to be so large, please report it; else download the file again",
            )
        self.data += self._file.read(min(max(end, 2 * have, _FIRST_READ), self.size, _MAX_HEADER) - have)
        if len(self.data) < end:
            self.fail(f"became shorter while it was read: {self.where} is missing", "try again")

    def take(self, nbytes: int) -> bytes:
        """Return the next bytes, and step over them."""
        start = self.at
        self.need(start + nbytes)
        self.at = start + nbytes
        return bytes(self.data[start : self.at])

    def u32(self) -> int:
        """Return the next 32-bit number, and step over it."""
        self.need(self.at + 4)
        self.at += 4
        return int(_U32.unpack_from(self.data, self.at - 4)[0])

    def u64(self) -> int:
        """Return the next 64-bit number, and step over it."""
        self.need(self.at + 8)
        self.at += 8
        return int(_U64.unpack_from(self.data, self.at - 8)[0])

    def text(self) -> str:
        """Return the next string, which has to be UTF-8, and step over it."""
        raw = self.take(self.u64())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fail(f"the name of {self.where} is not UTF-8: {raw[:40]!r}")

    def skip_strings(self, count: int) -> None:
        """Step over strings. The loop that decides what a vocabulary costs: one bounds check, one length."""
        at, data, unpack = self.at, self.data, _U64.unpack_from
        last = len(data) - 8
        for _ in range(count):
            if at > last:
                self.need(at + 8)
                last = len(data) - 8
            at += 8 + unpack(data, at)[0]
        self.need(at)
        self.at = at


@contextmanager
def open_cursor(path: Path) -> Iterator[Cursor]:
    """A cursor at the start of a regular file. ModelError where the file can't be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before opening: a pipe would wait for its writer
            raise ModelError("is not a regular file", "copy its content to one", file=path)
        if (remote := remote_file(path)) is not None:
            yield Cursor(Sequential(remote), path, remote.size)
            return
        with path.open("rb") as file:
            yield Cursor(file, path, os.fstat(file.fileno()).st_size)
    except FileNotFoundError as error:
        raise ModelError("there is no such file", "check the path", file=path) from error
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error
