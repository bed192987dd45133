"""Files that lie elsewhere, and whose bytes come when they are asked for.

A file on the hub has a name in a folder of this machine, without content, so that all that looks for files finds it.
What reads the bytes of a model's files, headers and tensors alike, looks here first. `model/hub` brings them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

__all__ = [
    "RemoteFile",
    "Sequential",
    "add_remote_file",
    "file_pieces",
    "file_size",
    "forget",
    "held_memory",
    "remote_file",
    "settle",
]


class RemoteFile(Protocol):
    """A file elsewhere. ModelError where it can't be had.

    size: in bytes
    held: bytes of memory that reading it takes, at about
    identity: what is the same in two runs where the bytes are, "" where that can't be told
    """

    size: int
    held: int
    identity: str

    def head(self, start: int, count: int) -> bytes:
        """Bytes of the header, of which all before are kept; fewer at the end of the file."""
        ...

    def read_into(self, out: memoryview, start: int) -> None:
        """Fill `out` with bytes of tensors; from any thread."""
        ...

    def settle(self) -> bool:
        """True if what was read is what the file should be, False where that can't be told; ModelError if it isn't."""
        ...

    def forget(self) -> None:
        """Throw away what was kept of its tensors."""
        ...


_files: dict[Path, RemoteFile] = {}


def add_remote_file(path: Path, file: RemoteFile) -> None:
    """From now on the bytes of this path come from there."""
    _files[path] = file


def remote_file(path: Path) -> RemoteFile | None:
    """What brings the bytes of this path; None where they lie in it."""
    return _files.get(path)


def file_size(path: Path) -> int:
    """Bytes of a file, wherever it lies. OSError passes."""
    file = _files.get(path)
    return path.stat().st_size if file is None else file.size


def file_pieces(path: Path, count: int = 1 << 20) -> Iterator[bytes]:
    """All bytes of a file, wherever it lies, at most `count` at a time. OSError passes."""
    if (file := _files.get(path)) is None:
        with path.open("rb") as stream:
            while data := stream.read(count):
                yield data
        return
    for start in range(0, file.size, count):
        piece = bytearray(min(count, file.size - start))
        file.read_into(memoryview(piece), start)
        yield bytes(piece)


def held_memory(paths: Iterable[Path]) -> int:
    """Bytes of memory that reading remote files takes, at about."""
    return sum(_files[path].held for path in paths if path in _files)


def settle(paths: Iterable[Path]) -> list[Path]:
    """Those of which it can't be told whether what was read is right. ModelError where it isn't."""
    return [path for path in paths if path in _files and not _files[path].settle()]


def forget(paths: Iterable[Path]) -> None:
    """Throw away what was kept of the tensors of remote files."""
    for path in paths:
        if path in _files:
            _files[path].forget()


class Sequential:
    """A remote file's header as a stream, from the first byte on."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at = file, 0

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end of the file."""
        data = self._file.head(self._at, count)
        self._at += len(data)
        return data
