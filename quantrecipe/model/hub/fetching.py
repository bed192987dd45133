"""HubPlace: a file on the hub, of which ranges are fetched, and tried again when a connection dies on the way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.core.cache import cache_folder
from quantrecipe.errors import ModelError
from quantrecipe.model.hub.address import HubAddress
from quantrecipe.model.hub.listing import huggingface_hub, refusals
from quantrecipe.model.remote.place import RemotePlace
from quantrecipe.units import whole_number

__all__ = ["HubPlace", "hub_folder"]

_PATIENCE = 60  # seconds without a byte
_TRIES = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds: doubled each time, unless the hub says how long
_EXPIRED = (400, 401, 403, 404, 410)  # of what storage answers where a signed address is no longer valid
_BUSY = (408, 429, 500, 502, 503, 504)


_moved: dict[str, str] = {}
"""Where the hub sent us on to, by its own address: it counts what it is asked, and a large model has 100,000 blocks."""


class _BrokenError(Exception):
    """A connection that ended early, or a hub that has no time: worth another try after so many seconds."""

    def __init__(self, after: float | None = None) -> None:
        self.after = after


def hub_folder(address: HubAddress, commit: str) -> Path:
    """The folder of this machine that stands for a repository at a commit; that of its blocks lies beside it."""
    owner = address.repo.partition("/")[0]
    return cache_folder() / "hub" / owner / commit / address.name


@dataclass(frozen=True, kw_only=True, slots=True)
class HubPlace(RemotePlace):
    """A file of a repository at a commit.

    size:   what the hub said of it, in bytes
    sha256: the same, in hex; "" where it doesn't say
    """

    address: HubAddress
    commit: str
    path: str
    size: int
    sha256: str = ""

    @property
    def identity(self) -> str:
        return f"{self.address.repo}@{self.commit}/{self.path}"

    @property
    def key(self) -> str:
        return hashlib.sha256(self.path.encode()).hexdigest()[:16]  # the commit is in the folder

    @property
    def folder(self) -> Path:
        folder = hub_folder(self.address, self.commit)
        return folder.with_name(f"{folder.name}.blocks")

    @property
    def hashed(self) -> bool:
        return True

    @property
    def url(self) -> str:
        """Where the hub has it, or says where it is."""
        found: str = huggingface_hub().hf_hub_url(self.address.repo, self.path, revision=self.commit)
        return found

    def fetch(self, start: int, count: int) -> bytes:
        """ModelError where it isn't as large as the hub said, too.

        The hub's token goes to the hub alone: a redirect to another host doesn't get it.
        """
        for attempt in range(_TRIES):
            try:
                with refusals(self.address):
                    return _once(self, start, count, last=attempt + 1 == _TRIES)
            except _BrokenError as broken:
                wait = _FIRST_WAIT * 2**attempt if broken.after is None else broken.after
                time.sleep(min(wait, _LONGEST_WAIT))
        raise AssertionError(self)

    def __str__(self) -> str:
        return f"hf://{self.address.repo}/{self.path}"


def _once(place: HubPlace, start: int, count: int, *, last: bool) -> bytes:
    """_BrokenError for what is worth another try; at the last one, the error itself."""
    hub = huggingface_hub()
    headers = {"Range": f"bytes={start}-{start + count - 1}", "Accept-Encoding": "identity"}
    url = moved = None if last else _moved.get(place.url)
    if url is None:
        url, headers = place.url, headers | hub.utils.build_hf_headers(library_name="quantrecipe")
    data = bytearray()
    try:
        with hub.get_session().stream("GET", url, headers=headers, timeout=_PATIENCE) as answer:
            if moved and answer.status_code in _EXPIRED:
                _moved.pop(place.url, None)
                raise _BrokenError(0)
            if answer.status_code in _BUSY and not last:
                after = answer.headers.get("Retry-After", "")
                raise _BrokenError(whole_number(after))
            hub.utils.hf_raise_for_status(answer)
            _check(place, start, answer.status_code, answer.headers.get("Content-Range", ""), answer.headers)
            if not moved and str(answer.url) != place.url:
                _moved[place.url] = str(answer.url)
            for piece in answer.iter_bytes():
                data += piece
                if len(data) >= count:  # where the whole file is sent, the rest isn't waited for
                    break
    except hub.errors.HfHubHTTPError:
        raise
    except hub.errors.HTTPError as error:
        if last:
            raise
        raise _BrokenError from error
    if len(data) < count:
        if not last:
            raise _BrokenError
        what = f"{place} broke off after {len(data):,} of {count:,} bytes, {_TRIES} times"
        raise ModelError(what, "check the connection, and run the same command: it goes on")
    return bytes(data[:count])


def _check(place: HubPlace, start: int, status: int, said: str, headers: Mapping[str, str]) -> None:
    """ModelError where the answer isn't the range that was asked for, of a file of the size that was told."""
    if status != 206 and start:
        what = f"{place} is sent as a whole only, and not in parts"
        raise ModelError(what, "download it, and give the file")
    if status == 206 and not said.startswith(f"bytes {start}-"):
        raise ModelError(
            f"{place}: {said!r} was sent, and not the bytes from {start:,} on", "try again later"
        )
    whole = whole_number(said.rpartition("/")[2] if status == 206 else headers.get("Content-Length", ""), 18)
    if whole is not None and whole != place.size:
        what = f"{place} has {whole:,} bytes, and the hub's list says {place.size:,}"
        raise ModelError(what, "something on the way isn't right: try again later, or use another network")
