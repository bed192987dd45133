"""Files that lie elsewhere, and whose bytes come when they are asked for.

A file on the hub, or in an object store, has a name in a folder of this machine, without content, so that all that
looks for files finds it. What reads the bytes of a model's files, headers and tensors alike, looks here first.
`model/remote` brings them.

A `Place` says where such a file is. It can be sent to other processes, which read the file from there themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

__all__ = [
    "Place",
    "RemoteFile",
    "Sequential",
    "add_place",
    "add_remote_file",
    "expecting",
    "file_pieces",
    "file_size",
    "forget",
    "held_memory",
    "is_elsewhere",
    "place_of",
    "remote_file",
    "settle",
]

_HUB = re.compile(r"hf:/{1,2}", re.ASCII)  # a Path has only one slash left
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}[^/]", re.ASCII)
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Schemes that are recognised even without fsspec, to say what is missing."""
_WEB = re.compile(r"https?:/{1,2}[^/?]+/[^?]*\.(?:gguf|safetensors)(?:\?.*)?", re.ASCII | re.IGNORECASE)
_OURS = ("hf", "http", "https", "file", "local", "data")
"""Schemes that fsspec has, too, and that are none of its here: pages are no folders."""


class Place(Protocol):
    """Where a file is, for any process: picklable, and without anything secret.

    size:     in bytes
    identity: what is the same in two runs where the bytes are
    hashed:   a file that was read as a whole is held against a hash that is known where it is
    """

    @property
    def size(self) -> int: ...

    @property
    def identity(self) -> str: ...

    @property
    def hashed(self) -> bool: ...


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

    def expect(self, ranges: Sequence[tuple[int, int]]) -> object:
        """These bytes, each range from and up to, are about to be read, and nothing beside them. For `unexpect`."""
        ...

    def unexpect(self, expected: object) -> None:
        """They have been read. What was kept of them is thrown away."""
        ...

    def settle(self) -> bool:
        """True if what was read is what the file should be, False where that can't be told; ModelError if it isn't."""
        ...

    def forget(self) -> None:
        """Throw away what was kept of its tensors."""
        ...


_files: dict[Path, RemoteFile] = {}
_places: dict[Path, Place] = {}


def is_elsewhere(ref: str | Path) -> bool:
    """True for the address of a model on the hub or in an object store, unless there is a path of that name.

    What is an address is said here, for all commands: hf://, the schemes that fsspec knows, and URLs of single files.
    """
    text = os.fspath(ref)
    if ":/" not in text or os.path.lexists(text):
        return False
    if _HUB.match(text) or _WEB.fullmatch(text):
        return True
    match = _URL.match(text)
    return match is not None and _is_store(match["scheme"].lower())


def _is_store(scheme: str) -> bool:
    if scheme in _STORES:
        return True
    if scheme in _OURS:
        return False
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError:
        return False
    return scheme in known_implementations or scheme in registry


def add_remote_file(path: Path, file: RemoteFile, place: Place | None = None) -> None:
    """From now on the bytes of this path come from there. place: None where no other process gets it"""
    _files[path] = file
    if place is not None:
        _places[path] = place


def add_place(path: Path, place: Place) -> None:
    """The bytes of this path, which lie in it, are those of the place, which others can get."""
    _places[path] = place


def remote_file(path: Path) -> RemoteFile | None:
    """What brings the bytes of this path; None where they lie in it."""
    return _files.get(path)


def place_of(path: Path) -> Place | None:
    """Where any process gets the bytes of this path; None where only this machine has them."""
    return _places.get(path)


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


@contextmanager
def expecting(ranges: Mapping[Path, Sequence[tuple[int, int]]]) -> Iterator[None]:
    """Within the block only these bytes of remote files are read, so nothing else is fetched, and nothing stays."""
    with ExitStack() as stack:
        for path, them in ranges.items():
            if (file := _files.get(path)) is not None:
                stack.callback(file.unexpect, file.expect(them))
        yield


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
