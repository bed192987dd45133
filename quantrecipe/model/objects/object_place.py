"""ObjectPlace: an object, of which ranges are fetched, and tried again when a connection dies on the way.

What an object is, is what its store says of it: its size, its ETag or checksum, its generation, and when it was
changed. All of it is the identity under which blocks are kept, and is compared when the work is done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from quantrecipe.core.cache import cache_folder
from quantrecipe.errors import ModelError
from quantrecipe.model.objects.address import ObjectAddress
from quantrecipe.model.objects.refusals import refusals, worth_another_try
from quantrecipe.model.remote.place import RemotePlace

__all__ = ["ObjectPlace", "folder_of", "object_place"]

_TRIES = 5
_FIRST_WAIT = 0.5  # seconds: doubled each time; file systems wait by themselves, too

_SAID = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "crc32c", "generation", "VersionId", "ino")
_WHEN = ("mtime", "LastModified", "last_modified", "updated", "Last-Modified", "modified", "modify", "last_write_time",
         "modificationTime", "modification_time", "created")  # fmt: skip
"""What file systems call that, the first of those that there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectPlace(RemotePlace):
    """folder_key: of the address of the folder that the model lies in; said: what the store says of the object"""

    address: ObjectAddress
    folder_key: str
    size: int
    said: tuple[tuple[str, str], ...]

    @property
    def sha256(self) -> str:
        return ""

    @property
    def identity(self) -> str:
        said = ",".join(f"{name}={value}" for name, value in self.said)
        return f"{self.address}#{self.size},{said}"

    @property
    def key(self) -> str:
        name = hashlib.sha256(self.address.url.encode()).hexdigest()[:16]
        return f"{name}-{hashlib.sha256(self.identity.encode()).hexdigest()[:16]}"

    @property
    def folder(self) -> Path:
        return folder_of(self.address.scheme, self.folder_key) / "blocks"

    def fetch(self, start: int, count: int) -> bytes:
        with refusals(self.address):
            for attempt in range(_TRIES):
                last = attempt + 1 == _TRIES
                try:
                    system, path = self.address.opened()
                    data = bytes(system.cat_file(path, start=start, end=start + count))
                    if len(data) == count:
                        return data
                    if last:
                        self.require_unchanged()
                        raise self._short(len(data), start, count)
                except Exception as error:
                    if last or not worth_another_try(error):
                        raise
                time.sleep(_FIRST_WAIT * 2**attempt)
        raise AssertionError(self)

    def require_unchanged(self) -> None:
        now = object_place(self.address, self.folder_key)
        if now.identity != self.identity:
            raise ModelError(
                f"{self.address} has been replaced since its header was read: {_difference(self, now)}",
                "wait until nothing writes there, and run the same command again: it begins anew",
            )

    def _short(self, found: int, start: int, count: int) -> ModelError:
        if found > count:
            what = f"{self.address} is sent as a whole only, and not in parts"
            return ModelError(what, "download it, and give the file")
        what = (
            f"{self.address} broke off at byte {start + found:,}, {count - found:,} too early, {_TRIES} times"
        )
        return ModelError(what, "check the connection, and run the same command: it goes on")

    def __str__(self) -> str:
        return str(self.address)


def folder_of(scheme: str, folder_key: str) -> Path:
    """The folder of this machine for what came of a model in an object store."""
    return cache_folder() / "objects" / scheme / folder_key


def object_place(address: ObjectAddress, folder_key: str) -> ObjectPlace:
    """The object as it is now. ModelError where it can't be had, or its store doesn't say how large it is."""
    info = _asked(address)
    size = info.get("size")
    if info.get("type") == "directory" or not isinstance(size, int) or size < 0:
        raise ModelError(f"{address}: it isn't said how large it is", "download it, and give the file")
    if info.get("partial") is False:
        raise ModelError(
            f"{address} is sent as a whole only, and not in parts", "download it, and give the file"
        )
    said = [(name, _text(info[name])) for name in _SAID if info.get(name)]
    said += [("changed", _text(info[name])) for name in _WHEN if info.get(name)][:1]
    return ObjectPlace(address=address, folder_key=folder_key, size=size, said=tuple(said))


def _asked(address: ObjectAddress) -> Mapping[str, Any]:
    with refusals(address):
        for attempt in range(_TRIES):
            try:
                system, path = address.opened()
                system.invalidate_cache()  # what it was told earlier isn't what is there now
                info: Mapping[str, Any] = system.info(path)
                return info
            except Exception as error:
                if attempt + 1 == _TRIES or not worth_another_try(error):
                    raise
            time.sleep(_FIRST_WAIT * 2**attempt)
    raise AssertionError(address)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value).strip('"')


def _difference(before: ObjectPlace, now: ObjectPlace) -> str:
    if before.size != now.size:
        return f"it had {before.size:,} bytes, and has {now.size:,}"
    old, new = dict(before.said), dict(now.said)
    name = next((it for it in new if old.get(it) != new[it]), "what is said of it")
    return f"{name} was {old.get(name, 'unknown')}, and is {new.get(name, 'unknown')}"
