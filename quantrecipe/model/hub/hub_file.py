"""HubFile: a file with weights on the hub, as what reads models sees it.

Its header comes by a request of its own and is kept; its tensors come in blocks, some of which are ordered before they
are asked for. The hub says the SHA-256 of each such file. Blocks pass through it in their order as they come, so that a
file that was read as a whole is checked when the work is done (`settle`), before any result gets its name.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import partial

from quantrecipe.errors import ModelError
from quantrecipe.model.hub.blocks import Blocks
from quantrecipe.model.hub.fetching import Place, fetch
from quantrecipe.whole_file import whole_file

__all__ = ["HubFile"]

_FIRST_HEAD = 1 << 18  # bytes: most headers of safetensors whole
_AHEAD = 8  # blocks
_FEW = 8  # blocks that nobody read, and that are fetched so that a file can be checked; or an eighth of it


class HubFile:
    """A RemoteFile of the hub.

    sha256: in hex, "" where the hub doesn't say
    """

    def __init__(self, place: Place, blocks: Blocks, sha256: str) -> None:
        self.size, self.held = place.size, 0
        self.identity = f"{place.address.repo}@{place.commit}/{place.path}"
        self.place = place
        self._blocks, self._sha256 = blocks, sha256
        self._key = hashlib.sha256(place.path.encode()).hexdigest()[:16]
        # What it has is right, since the commit is in its path.
        self._head_file, self._head = blocks.path(self._key, 0).with_name("head"), b""
        self._count = -(-self.size // blocks.size)
        self._lock = threading.Lock()
        self._hash, self._hashed, self._torn = hashlib.sha256(), 0, False
        self._read: set[int] = set()

    def head(self, start: int, count: int) -> bytes:
        end = min(start + count, self.size)
        with self._lock:
            if end > len(self._head) and self._head_file.is_file():
                self._head = self._head_file.read_bytes()
            have = len(self._head)
            if end > have:
                wanted = min(max(end, _FIRST_HEAD), self.size)
                self._head += fetch(self.place, have, wanted - have)
                self._keep_head()
        return self._head[start:end]

    def _keep_head(self) -> None:
        try:
            self._head_file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._head_file, mode=0o600, durable=False) as file:
                file.write(self._head)
        except OSError:
            return  # it is asked for again next time

    def read_into(self, out: memoryview, start: int) -> None:
        if start + len(out) > self.size:
            raise ModelError(
                f"{self.place} ends before byte {start + len(out):,}", "it isn't what its header says"
            )
        while out:
            number, begin = divmod(start, self._blocks.size)
            here = min(self._blocks.size - begin, len(out))
            for later in range(number + 1, min(number + 1 + _AHEAD, self._count)):
                self._want(later)
            self._blocks.read(self._key, number, self._getting(number), begin, out[:here])
            self._pass_on(number)
            out, start = out[here:], start + here

    def settle(self) -> bool:
        """True if the file has the SHA-256 that the hub says, False where that can't be told, since much wasn't read.

        ModelError if it has another one.
        """
        if not self._read:
            return True
        if not self._sha256:
            return False
        ahead = range(self._hashed, self._count)
        if sum(not self._blocks.path(self._key, number).is_file() for number in ahead) > max(
            _FEW, self._count // 8
        ):
            return False
        for number in ahead:
            start, count = self._place_of(number)
            self.read_into(memoryview(bytearray(count)), start)
        if self._hashed < self._count:  # something takes blocks away as they come
            return False
        found = self._hash.hexdigest()
        if found != self._sha256 or self._torn:
            self._blocks.drop(self._key)
            self._head_file.unlink(missing_ok=True)
            what = f"{self.place} has the SHA-256 {found}, and the hub says {self._sha256}"
            if found == self._sha256:
                what = f"the header of {self.place} that was sent first isn't the one of the file"
            raise ModelError(
                what, "it was damaged on the way, and is thrown away: run the same command again"
            )
        return True

    def forget(self) -> None:
        """Throw the blocks away."""
        self._blocks.drop(self._key)

    def _want(self, number: int) -> None:
        if number not in self._read:
            self._blocks.want(self._key, number, self._getting(number))

    def _getting(self, number: int) -> Callable[[], bytes]:
        return partial(fetch, self.place, *self._place_of(number))

    def _place_of(self, number: int) -> tuple[int, int]:
        """The first byte of a block, and how many it has."""
        start = number * self._blocks.size
        return start, min(self._blocks.size, self.size - start)

    def _pass_on(self, number: int) -> None:
        """Let the block through the hash, if it is the next one, and those after it that were read before."""
        self._read.add(number)
        if not self._sha256 or number != self._hashed:
            return
        with self._lock:
            while self._hashed in self._read:
                path = self._blocks.path(self._key, self._hashed)
                try:
                    data = path.read_bytes()
                except OSError:  # it had to go; `settle` fetches it again
                    return
                self._hash.update(data)
                # The header came by itself, and says what the bytes mean: it has to be that of this file.
                begin = self._hashed * self._blocks.size
                head = self._head[begin : begin + len(data)]
                self._torn |= data[: len(head)] != head
                self._hashed += 1
