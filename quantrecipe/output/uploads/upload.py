"""upload: files go to an object store, and appear there when all of them are complete; or none does.

A file is sent from its first byte to its last, in blocks that the store keeps until it is told that they are a file
(S3: a multipart upload). Whatever ends the work before that gives the blocks up. What is there in the end is compared
with what was sent: by the MD5 that the store has made of it, or, if it says none or another, by reading it back.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import xxhash

from quantrecipe.errors import ModelError, OutputError, QuantrecipeError
from quantrecipe.model.objects import ObjectAddress, lacks_rights, shown

__all__ = ["Outgoing", "Sent", "require_writable", "upload"]

_LEAST_BLOCK = 8 << 20
_MOST_BLOCKS = 9_000
"""S3 takes 10,000 parts of a file, so those of 600 GB have 67 MiB."""

_MIB = 1 << 20
_AT_ONCE = 4  # files; each goes over one connection
_TRIAL = 6 << 20  # bytes; S3 takes no part of less than 5 MiB but the last
_TRIAL_NAME = ".quantrecipe-trial"
_PARTS_HASHED = ("s3", "s3a")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A file that is to be sent.

    content: its bytes in order, from the beginning each time it is called
    """

    address: ObjectAddress
    nbytes: int
    content: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A file that is there. compared: how it was found to be what was sent, for people; "" if it couldn't be read"""

    address: ObjectAddress
    nbytes: int
    compared: str


def require_writable(addresses: Sequence[ObjectAddress], *, force: bool) -> None:
    """OutputError where something is there already (unless `force`), or nothing may be written.

    Some megabytes are sent to each folder, and given up: hours of work shall not end at a key that may only read.
    """
    for address in addresses:
        _require_free(address, force=force)
    for folder in dict.fromkeys(it.parent for it in addresses):
        if folder is None:
            raise OutputError("a bucket is no file", "name a file in it, such as s3://bucket/model.gguf")
        address = folder.child(_TRIAL_NAME)
        with _writing(folder):
            outgoing = Outgoing(address=address, nbytes=_TRIAL, content=lambda: iter((bytes(_TRIAL),)))
            trial = _Sending(outgoing, _in_transaction(address))
            try:
                trial.send(threading.Event())
            finally:
                trial.give_up()


def upload(
    files: Sequence[Outgoing], *, force: bool = False, advance: Callable[[int], None] = lambda nbytes: None
) -> tuple[Sent, ...]:
    """Send all, give all their names, and compare them.

    advance: told the bytes that were sent, from any thread
    OutputError where they can't be sent, where something is there by now (unless `force`), or other bytes came to be
    there. Nothing has its name then, but for what the error names.
    """
    stop, sending = threading.Event(), list[_Sending]()
    systems: dict[str, Any] = {}
    try:
        for file in files:
            with _writing(file.address):
                name = file.address.scheme
                if name not in systems:
                    systems[name] = _in_transaction(file.address)
                sending.append(_Sending(file, systems[name], advance))
        with ThreadPoolExecutor(_AT_ONCE, "upload") as pool:
            futures = [pool.submit(_send, it, stop) for it in sending]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()  # those that are done don't mind
            for future in futures:
                future.result()
        for file in files:
            _require_free(file.address, force=force)
        _give_names(sending)
    except BaseException:
        for it in sending:
            it.give_up()
        raise
    return tuple(_compared(it) for it in sending)


def _in_transaction(address: ObjectAddress) -> Any:
    """A file system of its own, on which nothing that is written appears before it is committed."""
    system, _ = address.opened(alone=True)
    system.start_transaction()
    return system


def _send(sending: _Sending, stop: threading.Event) -> None:
    with _writing(sending.file.address):
        try:
            sending.send(stop)
        except BaseException:
            stop.set()
            raise


def _give_names(sending: Sequence[_Sending]) -> None:
    named: list[str] = []
    for it in sending:
        try:
            with _writing(it.file.address):
                it.commit()
        except OutputError as error:
            if named:
                more = f"done before that: {', '.join(named)}"
                raise OutputError(error.problems[0].what, more) from error
            raise
        named.append(str(it.file.address))


class _Sending:
    """A file on its way. parts: the MD5 of each block"""

    def __init__(
        self, file: Outgoing, system: Any, advance: Callable[[int], None] = lambda nbytes: None
    ) -> None:
        """system: of fsspec's, in a transaction"""
        self.file, self.system = file, system
        self.block = _block_bytes(file.nbytes)
        self.parts: list[bytes] = []
        self.whole = None if file.address.scheme in _PARTS_HASHED else hashlib.md5(usedforsecurity=False)
        self.digest = xxhash.xxh3_128()
        self.path = file.address.opened()[1]
        self._advance = advance
        self._before = _may_be_there(self.system, self.path)
        self._settled = False
        self._stream = self.system.open(self.path, "wb", block_size=self.block)

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
        self._stream.close()

    def commit(self) -> None:
        """Give it its name."""
        self._settled = True
        if hasattr(self._stream, "commit"):
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
            if not self._before and _there(self.system, self.path):
                self.system.rm_file(self.path)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.parts.append(hashlib.md5(data, usedforsecurity=False).digest())
        if self.whole is not None:
            self.whole.update(data)
        self.digest.update(data)
        self._advance(len(data))


def _compared(sending: _Sending) -> Sent:
    """What came to be there is what was sent, or it is removed."""
    file, system, path = sending.file, sending.system, sending.path
    try:
        with _writing(file.address):
            how = _how_it_is_the_same(sending)
    except OutputError as error:
        if isinstance(error.__cause__, Exception) and lacks_rights(error.__cause__):
            return Sent(address=file.address, nbytes=file.nbytes, compared="")
        raise
    if not how:
        with suppress(Exception):  # the error says that it is wrong
            system.rm_file(path)
        raise OutputError(
            f"other bytes came to be in {file.address} than were sent, so it was removed", "send it again"
        )
    return Sent(address=file.address, nbytes=file.nbytes, compared=how)


def _how_it_is_the_same(sending: _Sending) -> str:
    """For people; "" where it isn't."""
    system, path = sending.system, sending.path
    system.invalidate_cache()
    info = system.info(path)
    if info["size"] != sending.file.nbytes:
        return ""
    etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    together = hashlib.md5(b"".join(sending.parts), usedforsecurity=False).hexdigest()
    if etag == f"{together}-{len(sending.parts)}":
        return "the store's MD5 of its parts"
    if sending.whole is not None:
        md5 = sending.whole.digest()
        if md5.hex() == etag or base64.b64encode(md5).decode() == info.get("md5Hash"):
            return "the store's MD5"
    digest = xxhash.xxh3_128()
    for start in range(0, sending.file.nbytes, _LEAST_BLOCK):
        end = min(start + _LEAST_BLOCK, sending.file.nbytes)
        digest.update(system.cat_file(path, start=start, end=end))
    return "reading it back" if digest.digest() == sending.digest.digest() else ""


def _block_bytes(nbytes: int) -> int:
    return max(_LEAST_BLOCK, -(-nbytes // _MOST_BLOCKS // _MIB) * _MIB) if nbytes > _TRIAL else _TRIAL


def _require_free(address: ObjectAddress, *, force: bool) -> None:
    if force:
        return
    with _writing(address):
        system, path = address.opened()
        system.invalidate_cache()
        if _there(system, path):
            raise OutputError(f"{address} exists", "say --force to replace it, or name another file")


def _there(system: Any, path: str) -> bool:
    """Something has this name. What else goes wrong passes: `exists` of fsspec would say False."""
    try:
        system.invalidate_cache()
        return bool(system.info(path).get("type") != "directory")
    except FileNotFoundError:
        return False


def _may_be_there(system: Any, path: str) -> bool:
    """The same for who may write and not read, and so can't tell."""
    try:
        return _there(system, path)
    except Exception as error:
        if lacks_rights(error):
            return True
        raise


@contextmanager
def _writing(address: ObjectAddress) -> Iterator[None]:
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
        elif isinstance(error, FileNotFoundError):
            remedy = "make the bucket or the folder, or name another"
        elif isinstance(error, NotImplementedError):
            remedy = "write to a folder, and bring the file there by other means"
        raise OutputError(f"{address} can't be written: {shown(error)}", remedy) from error
