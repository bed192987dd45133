"""Sending: a file on its way to an object store. It appears there when it is told to, or nothing of it stays.

fsspec's transactions are what that is made of: closing one of its files after an exception would otherwise publish half
of it. Some file systems know none. Of these,

    adlfs, webdav4    give a file its name when it is closed, so it is closed when it is to get its name
    HDFS              shows half a file, so what it shows is removed if the rest can't be sent
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import xxhash

from quantrecipe.errors import ModelError, OutputError, QuantrecipeError
from quantrecipe.model.objects import ObjectAddress, lacks_folder, lacks_rights, shown

__all__ = ["SMALLEST", "Outgoing", "Sending", "block_bytes", "in_transaction", "is_there", "writing"]

SMALLEST = 6 << 20
"""Bytes of a block of a small file. S3 takes no part of less than 5 MiB but the last."""

_LEAST_BLOCK = 8 << 20
_MOST_BLOCKS = 9_000
"""S3 takes 10,000 parts of a file, so those of 600 GB have 67 MiB."""

_MIB = 1 << 20
_PARTS_HASHED = ("s3", "s3a")
_NAMED_WHEN_CLOSED = ("webdav", "dav")
"""webdav4's files have a `commit`, which sends all, and is also what closing them does."""
_TEMPORARY = {"sftp": "temppath", "ssh": "temppath", "ftp": "tempdir"}
"""What file systems call the folder there in which a file lies until it gets its name."""
_THEIR_TEMPORARY = "/tmp"
"""What that is unless somebody has said another one. Nothing can be renamed from there to another disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A file that is to be sent.

    content: its bytes in order, from the beginning each time it is called
    """

    address: ObjectAddress
    nbytes: int
    content: Callable[[], Iterator[bytes]]


def in_transaction(address: ObjectAddress) -> Any:
    """A file system of its own, on which nothing that is written appears before it is committed."""
    system, path = address.opened(alone=True)
    option = _TEMPORARY.get(address.scheme, "")
    if getattr(system, option, None) == _THEIR_TEMPORARY:
        setattr(system, option, path.rpartition("/")[0])
    system.start_transaction()
    return system


class Sending:
    """A file on its way.

    parts:   the MD5 of each block
    visible: it is shown under its name while it is sent
    """

    def __init__(
        self, file: Outgoing, system: Any, advance: Callable[[int], None] = lambda nbytes: None
    ) -> None:
        """system: of fsspec's, in a transaction"""
        self.file, self.system = file, system
        self.block = block_bytes(file.nbytes)
        self.parts: list[bytes] = []
        self.whole = None if file.address.scheme in _PARTS_HASHED else hashlib.md5(usedforsecurity=False)
        self.digest = xxhash.xxh3_128()
        self.path = file.address.opened()[1]
        self._advance = advance
        self._before = _may_be_there(self.system, self.path)
        self._settled = False
        self._stream = self.system.open(self.path, "wb", block_size=self.block)
        if hasattr(self._stream, "set_pipelined"):
            self._stream.set_pipelined(True)  # paramiko else waits for an answer after each 32 KiB
        self._closed_last = file.address.scheme in _NAMED_WHEN_CLOSED or not _has_commit(self._stream)
        self.visible = self._closed_last and not self._before and is_there(self.system, self.path)

    def send(self, stop: threading.Event) -> None:
        """All blocks, the last one too; until `stop` is set by another file that can't be sent."""
        buffer, sent = bytearray(), 0
        for piece in self.file.content():
            buffer += memoryview(piece)
            while len(buffer) >= self.block:
                if stop.is_set():
                    return
                self._write(bytes(memoryview(buffer)[: self.block]))
                sent += self.block
                del buffer[: self.block]
        if buffer and not stop.is_set():
            self._write(bytes(buffer))
            sent += len(buffer)
        if stop.is_set():
            return
        if sent != self.file.nbytes:
            raise OutputError(
                f"{sent:,} bytes were there to be sent to {self.file.address}, and not {self.file.nbytes:,}",
                "run it again",
            )
        if not self._closed_last:
            self._stream.close()

    def send_what_waits(self) -> None:
        """Have something sent by now, even where that gives it its name. For trials, which are given up afterwards."""
        if self.file.address.scheme in _NAMED_WHEN_CLOSED:
            self._stream.close()

    def commit(self) -> None:
        """Give it its name."""
        if self._closed_last:
            self._stream.close()
        self._settled = True
        if not self._closed_last:
            self._stream.commit()

    def give_up(self) -> None:
        """Throw away what was sent, unless it has its name."""
        if self._settled:
            return
        self._settled = True
        with suppress(Exception):  # what ended the work is told
            self._stream.discard()
        with suppress(Exception):
            self._stream.closed = True  # what is thrown away by Python isn't sent once more
        with suppress(Exception):  # where files appear at once, there is half of one
            if not self._before and is_there(self.system, self.path):
                self.system.rm_file(self.path)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.parts.append(hashlib.md5(data, usedforsecurity=False).digest())
        if self.whole is not None:
            self.whole.update(data)
        self.digest.update(data)
        self._advance(len(data))


def block_bytes(nbytes: int) -> int:
    """Of the parts in which a file of so many bytes is sent."""
    return max(_LEAST_BLOCK, -(-nbytes // _MOST_BLOCKS // _MIB) * _MIB) if nbytes > SMALLEST else SMALLEST


def _has_commit(stream: Any) -> bool:
    """Closing this file doesn't give it its name. The base class of many has a `commit` that does nothing."""
    from fsspec.spec import AbstractBufferedFile

    commit = getattr(stream, "commit", None)
    return commit is not None and getattr(commit, "__func__", None) is not AbstractBufferedFile.commit


def is_there(system: Any, path: str) -> bool:
    """Something has this name. What else goes wrong passes: `exists` of fsspec would say False."""
    try:
        system.invalidate_cache()
        return bool(system.info(path).get("type") != "directory")
    except FileNotFoundError:
        return False


def _may_be_there(system: Any, path: str) -> bool:
    """The same for who may write and not read, and so can't tell."""
    try:
        return is_there(system, path)
    except Exception as error:
        if lacks_rights(error):
            return True
        raise


@contextmanager
def writing(address: ObjectAddress) -> Iterator[None]:
    """What goes wrong there becomes an OutputError that says what to do."""
    try:
        yield
    except ModelError as error:  # of an address that can't be opened
        raise OutputError(error.problems[0].what, error.problems[0].remedy) from error
    except QuantrecipeError:
        raise
    except Exception as error:  # anything may come from a package of anybody's
        remedy = "check the connection, and run the same command again"
        if lacks_rights(error):
            remedy = (
                "check the keys of this machine: they have to allow writing there, and listing or --force"
            )
        elif lacks_folder(error):
            remedy = "make the bucket or the folder, or name another"
        elif isinstance(error, NotImplementedError):
            remedy = "write to a folder, and bring the file there by other means"
        raise OutputError(f"{address} can't be written: {shown(error)}", remedy) from error
