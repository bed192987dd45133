"""The legacy layout of importance matrices, little-endian and without a magic number.

    i32 entries
    for each entry:  i32 length   name   i32 calls   i32 values   float32[values]
    and, in newer files:  i32 chunks   [i32 length   name of the calibration text]

Values are means times `calls`; the values of an expert that calibration never reached are `calls` throughout.

Source: llama.cpp, tools/imatrix/imatrix.cpp and common/imatrix-loader.cpp.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.raw import RawEntry, RawImportance

__all__ = ["parse_dat"]

_I32 = struct.Struct("<i")
_SMALLEST_ENTRY = (
    4 + 1 + 4 + 4 + 4
)  # length and one character of the name, calls, number of values, one value
_LONGEST_NAME = 1024  # ggml's own limit is 63; longer ones are a sign that the file is something else
_LONGEST_DATASET = 1 << 16  # bytes: it is a path, and systems take at most 4,096


def parse_dat(path: Path) -> RawImportance:
    """The entries of a legacy file. ImportanceError where the file isn't one, or is cut short."""
    try:
        with path.open("rb") as file:
            return _Parser(path, file).parse()
    except OSError as error:
        raise ImportanceError(f"can't be read: {error.strerror or error}", file=path) from error


class _Parser:
    """A position in a file whose size is known, so that no length is believed that it can't hold."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = os.fstat(file.fileno()).st_size

    def parse(self) -> RawImportance:
        count = self.i32("the number of entries") if self.left() >= _I32.size else 0
        if not 0 < count <= self.left() // _SMALLEST_ENTRY:
            raise self.not_one(f"its first number, {count}, can't be a number of entries")
        entries = [self.entry(number, count) for number in range(1, count + 1)]
        chunks = self.i32("the number of chunks") if self.left() else 0
        datasets = (self.dataset(),) if self.left() else ()
        if self.left():
            raise self.error(f"has {self.left():,} bytes after its end", "make it again with llama-imatrix")
        return RawImportance(
            layout="dat",
            entries=tuple(entries),
            datasets=tuple(filter(None, datasets)),
            chunks=max(0, chunks),
        )

    def entry(self, number: int, count: int) -> RawEntry:
        what = f"entry {number} of {count}"
        length = self.i32(what)
        if not 0 < length <= _LONGEST_NAME:
            if number == 1:
                raise self.not_one(f"its first name would be {length} bytes long")
            raise self.error(f"{what} has a name of {length} bytes", "make it again with llama-imatrix")
        try:
            name = self.take(length, what).decode()
        except UnicodeDecodeError as error:
            raise self.not_one(f"the name in {what} is no text") from error
        calls, size = self.i32(name), self.i32(name)
        if not 0 < size <= self.left() // 4:
            raise self.error(f"{name} claims {size:,} values, and the file has room for {self.left() // 4:,}")
        offset = self.file.tell()
        self.file.seek(4 * size, os.SEEK_CUR)
        return RawEntry(name=name, size=size, counts=(calls,), offset=offset)

    def dataset(self) -> str:
        length = self.i32("the name of the calibration text")
        if not 0 <= length <= _LONGEST_DATASET:
            raise self.error(f"claims a calibration text with a name of {length} bytes")
        return self.take(length, "the name of the calibration text").decode(errors="replace")

    def i32(self, what: str) -> int:
        return int(_I32.unpack(self.take(_I32.size, what))[0])

    def take(self, count: int, what: str) -> bytes:
        data = self.file.read(count) if count <= self.left() else b""
        if len(data) != count:
            raise self.error(f"ends within {what}", "it was cut short; copy or make it again")
        return data

    def left(self) -> int:
        return self.size - self.file.tell()

    def error(self, what: str, remedy: str = "it was cut short or damaged; make it again") -> ImportanceError:
        return ImportanceError(what, remedy, file=self.path)

    def not_one(self, why: str) -> ImportanceError:
        return self.error(
            f"is not an importance matrix, neither GGUF nor .dat ({why})", "make one with llama-imatrix"
        )
