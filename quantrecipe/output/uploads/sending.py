"""Sending: a file on its way to an object store. It appears there when it is told to, or nothing of it stays.

fsspec's transactions are what that is made of: closing one of its files after an exception would otherwise publish half
of it. Some file systems know none. Of these,

    adlfs      gives a file its name when it is closed, so it is closed when it is to get its name
    webdav4    sends a file when it is closed, and some servers show what has come so far, so it is sent under another
               name beside its place, and moved from there
    HDFS       shows half a file, so what it shows is removed if the rest can't be sent
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import xxhash

from quantrecipe.errors import ModelError, OutputError, QuantrecipeError
from quantrecipe.model.objects import ObjectAddress, lacks_folder, lacks_rights, shown

__all__ = [
    "SMALLEST",
    "Outgoing",
    "Sending",
    "Sums",
    "block_bytes",
    "blocks_of",
    "in_transaction",
    "is_there",
    "reopened",
    "writing",
]

SMALLEST = 6 << 20
"""Bytes of a block of a small file. S3 takes no part of less than 5 MiB but the last."""

_LEAST_BLOCK = 8 << 20
_MOST_BLOCKS = 9_000
"""S3 takes 10,000 parts of a file, so those of 600 GB have 67 MiB."""

_MIB = 1 << 20
_PARTS_HASHED = ("s3", "s3a")
_MOVED = ("webdav", "dav")
"""webdav4's files have a `commit`, which sends all, and is also what closing them does."""
_COMPLETE_WHEN_SHOWN = ("az", "abfs", "abfss")
"""Of those that give a file its name when it is closed. What others do then, nobody here knows."""
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


def reopened(address: ObjectAddress) -> tuple[Any, str]:
    """The same as `ObjectAddress.opened`, over a connection that works by now.

    fsspec keeps a file system of SFTP together with its connection, and that may have ended: the server has gone and
    come back, or nothing came over it for as long as an upload takes. Other file systems connect when they are asked.
    """
    return address.opened(alone=address.scheme in _TEMPORARY)


class Sums:
    """Of a file's bytes, what stores say of theirs, too; and a hash of ours.

    parts: the MD5 of each block of so many bytes
    whole: of all, where stores of this kind say that
    """

    def __init__(self, file: Outgoing) -> None:
        self.block = block_bytes(file.nbytes)
        self.parts: list[bytes] = []
        self.whole = None if file.address.scheme in _PARTS_HASHED else hashlib.md5(usedforsecurity=False)
        self.digest = xxhash.xxh3_128()

    def add(self, data: bytes) -> None:
        """The next block."""
        self.parts.append(hashlib.md5(data, usedforsecurity=False).digest())
        if self.whole is not None:
            self.whole.update(data)
        self.digest.update(data)


def blocks_of(pieces: Iterable[bytes], nbytes: int) -> Iterator[bytes]:
    """The same bytes in blocks of so many; the last one may have fewer."""
    buffer = bytearray()
    for piece in pieces:
        buffer += memoryview(piece)
        while len(buffer) >= nbytes:
            yield bytes(memoryview(buffer)[:nbytes])
            del buffer[:nbytes]
    if buffer:
        yield bytes(buffer)


class Sending:
    """A file on its way.

    sums:    of what was sent
    visible: it is shown under its name while it is sent
    """

    def __init__(
        self, file: Outgoing, system: Any, advance: Callable[[int], None] = lambda nbytes: None
    ) -> None:
        """system: of fsspec's, in a transaction"""
        self.file, self.system = file, system
        self.sums = Sums(file)
        self.path = file.address.opened()[1]
        self._advance = advance
        self._before = _may_be_there(self.system, self.path)
        self._settled = False
        self._beside = _beside(self.path) if file.address.scheme in _MOVED else ""
        self._stream = self.system.open(self._beside or self.path, "wb", block_size=self.sums.block)
        if hasattr(self._stream, "set_pipelined"):
            self._stream.set_pipelined(True)  # paramiko else waits for an answer after each 32 KiB
        self._closed_last = not self._beside and not _has_commit(self._stream)
        at_once = self._closed_last or not getattr(self.system, "_intrans", False)
        self.visible = at_once and not self._before and is_there(self.system, self.path)

    def send(self, stop: threading.Event) -> None:
        """All blocks, the last one too; until `stop` is set by another file that can't be sent.

        `send_what_waits` is to be called afterwards.
        """
        sent = 0
        for block in blocks_of(self.file.content(), self.sums.block):
            if stop.is_set():
                return
            self._write(block)
            sent += len(block)
        if stop.is_set():
            return
        if sent != self.file.nbytes:
            raise OutputError(
                f"{sent:,} bytes were there to be sent to {self.file.address}, and not {self.file.nbytes:,}",
                "run it again",
            )
        if not self._closed_last and not self._beside:
            self._stream.close()

    def send_what_waits(self) -> None:
        """What is sent in one go. To be called where Ctrl-C arrives: it may take as long as all else."""
        if self._beside:
            self._stream.close()

    def rehearse(self) -> None:
        """Rename it as `commit` would, where that isn't what any store can. For trials, which are given up then."""
        if self._beside:
            other = _beside(self.path)
            self._move_to(other)
            self._beside = other

    def commit(self) -> None:
        """Give it its name. If that fails, it may have it in spite of that: only the answer may have been lost."""
        if self._beside:
            self._move_to(self.path)
        elif self._closed_last:
            self._stream.close()
        else:
            self._stream.commit()
        self.settle()

    def settle(self) -> None:
        """It has its name, so there is nothing to give up."""
        self._settled = True

    def give_up(self) -> None:
        """Throw away what was sent, unless it has its name."""
        if self._settled:
            return
        self._settled = True
        if hasattr(self._stream, "set_pipelined"):
            with suppress(Exception):  # what ended the work is told
                self._stream.close()  # some servers remove nothing that is open
        with suppress(Exception):
            self._discard()
        # What is thrown away by Python isn't sent once more. paramiko's files have the other attribute.
        for name in ("closed", "_closed"):
            with suppress(Exception):
                setattr(self._stream, name, True)
        with suppress(Exception):
            if self._beside:
                self.system.rm_file(self._beside)
        # Where none of ours can have the name before it is complete, what has it now was put there by somebody else.
        ours = self.visible or (self._closed_last and self.file.address.scheme not in _COMPLETE_WHEN_SHOWN)
        with suppress(Exception):
            if ours and not self._before and is_there(self.system, self.path):
                self.system.rm_file(self.path)

    def _discard(self) -> None:
        try:
            self._stream.discard()
        except Exception:
            if self.file.address.scheme not in _TEMPORARY:
                raise
            # Its connection may be what has ended, and that of paramiko and ftplib doesn't come back.
            self._stream.fs = reopened(self.file.address)[0]
            self._stream.discard()

    def _move_to(self, path: str) -> None:
        try:
            self.system.client.move(self._beside, path, overwrite=True)  # `mv` can't replace what is there
        except Exception as error:
            if error.__cause__ is not None:
                # webdav4 takes any 403 for a file that is moved to where it is. Behind it stands what the server said.
                raise error.__cause__ from None
            raise

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.sums.add(data)
        self._advance(len(data))


def block_bytes(nbytes: int) -> int:
    """Of the parts in which a file of so many bytes is sent."""
    return max(_LEAST_BLOCK, -(-nbytes // _MOST_BLOCKS // _MIB) * _MIB) if nbytes > SMALLEST else SMALLEST


def _beside(path: str) -> str:
    """A name in the same folder that nothing has."""
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}.quantrecipe-{uuid.uuid4()}"


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
