"""upload: files go to an object store, and appear there when all of them are complete; or none does.

A file is sent from its first byte to its last, in blocks that the store keeps until it is told that they are a file
(S3: a multipart upload). Whatever ends the work before that gives the blocks up. What is there in the end is compared
with what was sent: by the MD5 that the store has made of it, or, if it says none or another, by reading it back.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import xxhash

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress, lacks_rights, shown
from quantrecipe.output.uploads.sending import (
    SMALLEST,
    Outgoing,
    Sending,
    Sums,
    blocks_of,
    in_transaction,
    is_there,
    reopened,
    writing,
)

__all__ = ["Outgoing", "Sent", "already_there", "compared", "require_free", "require_writable", "upload"]

_CHUNK = 8 << 20  # bytes that are read back in one go
_AT_ONCE = 4
"""Files; each goes over one connection. Where a file system isn't made for threads, one: paramiko and ftplib wait for
ever where two threads write over the same connection."""
_TRIAL_NAME = ".quantrecipe-trial"


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
        require_free(address, force=force)
    for folder in dict.fromkeys(it.parent for it in addresses):
        if folder is None:
            raise OutputError("a bucket is no file", "name a file in it, such as s3://bucket/model.gguf")
        address = folder.child(_TRIAL_NAME)
        with writing(folder):
            outgoing = Outgoing(address=address, nbytes=SMALLEST, content=lambda: iter((bytes(SMALLEST),)))
            trial = Sending(outgoing, in_transaction(address))
            try:
                trial.send(threading.Event())
                trial.send_what_waits()
                trial.rehearse()
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
    for file in files:
        require_free(file.address, force=force)
    stop, sending = threading.Event(), list[Sending]()
    systems: dict[ObjectAddress | None, Any] = {}
    try:
        for file in files:
            with writing(file.address):
                folder = file.address.parent
                if folder not in systems:
                    systems[folder] = in_transaction(file.address)
                sending.append(Sending(file, systems[folder], advance))
        at_once = _AT_ONCE if all(getattr(it.system, "async_impl", False) for it in sending) else 1
        with ThreadPoolExecutor(at_once, "upload") as pool:
            futures = [pool.submit(_send, it, stop) for it in sending]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()  # those that are done don't mind
            for future in futures:
                future.result()
        for it in sending:
            with writing(it.file.address):
                it.send_what_waits()
        for it in sending:
            require_free(it.file.address, force=force or it.visible)
        known = _give_names(sending)
    except BaseException:
        for it in sending:
            it.give_up()
        raise
    return tuple(
        compared(
            it.file.address, it.file.nbytes, partial(_how_it_is_the_same, it.file, it.sums), known.get(it, "")
        )
        for it in sending
    )


def _send(sending: Sending, stop: threading.Event) -> None:
    with writing(sending.file.address):
        try:
            sending.send(stop)
        except BaseException:
            stop.set()
            raise


def _give_names(sending: Sequence[Sending]) -> dict[Sending, str]:
    """For those that were compared on the way: how, for people."""
    named: list[str] = []
    known: dict[Sending, str] = {}
    for it in sending:
        try:
            with writing(it.file.address):
                it.commit()
        except OutputError as error:
            if not it.visible:
                with suppress(Exception):  # the store may be away; then the error is what it was
                    known[it] = _how_it_is_the_same(it.file, it.sums)
            if known.get(it):  # it had been done, and only the answer was lost
                it.settle()
            elif named:
                more = f"done before that: {', '.join(named)}"
                raise OutputError(error.problems[0].what, more) from error
            else:
                raise
        named.append(str(it.file.address))
    return known


def compared(address: ObjectAddress, nbytes: int, how: Callable[[], str], known: str = "") -> Sent:
    """What came to be there is what was sent, or it is removed, and an OutputError says so.

    how:   says how they were compared, or "" where they aren't the same
    known: the same, if it was asked already
    """
    try:
        with writing(address):
            said = known or how()
    except OutputError as error:
        cause = error.__cause__
        if not isinstance(cause, Exception):
            raise
        if lacks_rights(cause):
            return Sent(address=address, nbytes=nbytes, compared="")
        raise OutputError(
            f"{address} is there, and couldn't be compared with what was sent: {shown(cause)}",
            "quantrecipe verify reads it and compares it, and --force sends it again",
        ) from error
    if not said:
        with suppress(Exception):  # the error says that it is wrong
            system, path = reopened(address)
            system.rm_file(path)
        raise OutputError(
            f"other bytes came to be in {address} than were sent, so it was removed", "send it again"
        )
    return Sent(address=address, nbytes=nbytes, compared=said)


def already_there(file: Outgoing) -> Sent | None:
    """A file that an earlier run has sent; None where nothing has its name, or something else. OutputError."""
    with writing(file.address):
        system, path = reopened(file.address)
        if not is_there(system, path) or system.info(path)["size"] != file.nbytes:
            return None
        sums = Sums(file)
        for block in blocks_of(file.content(), sums.block):
            sums.add(block)
        how = _how_it_is_the_same(file, sums)
    return Sent(address=file.address, nbytes=file.nbytes, compared=how) if how else None


def _how_it_is_the_same(file: Outgoing, sums: Sums) -> str:
    """What is there, and these sums, for people; "" where it isn't."""
    # Not the one that it was sent with: in a transaction, some file systems open another file for reading, too.
    system, path = reopened(file.address)
    system.invalidate_cache()
    info = system.info(path)
    if info["size"] != file.nbytes:
        return ""
    etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    together = hashlib.md5(b"".join(sums.parts), usedforsecurity=False).hexdigest()
    if etag == f"{together}-{len(sums.parts)}":
        return "the store's MD5 of its parts"
    if sums.whole is not None:
        md5 = sums.whole.digest()
        if md5.hex() == etag or base64.b64encode(md5).decode() == info.get("md5Hash"):
            return "the store's MD5"
    digest = xxhash.xxh3_128()
    for start in range(0, file.nbytes, _CHUNK):
        digest.update(system.cat_file(path, start=start, end=min(start + _CHUNK, file.nbytes)))
    return "reading it back" if digest.digest() == sums.digest.digest() else ""


def require_free(address: ObjectAddress, *, force: bool) -> None:
    """OutputError where something has this name, unless `force`."""
    if force:
        return
    with writing(address):
        system, path = reopened(address)
        if is_there(system, path):
            raise OutputError(f"{address} exists", "say --force to replace it, or name another file")
