"""BlockFile: a file with weights elsewhere, as what reads models sees it; open_places, which workers read with.

Its header comes by a request of its own and is kept; its tensors come in blocks, some of which are ordered before they
are asked for. Where it was said which bytes are wanted (`expect`), nothing else is fetched, and nothing of it stays.

The hub says the SHA-256 of each such file. Blocks pass through it in their order as they come, so that a file that was
read as a whole is checked when the work is done (`settle`), before any result gets its name. Of what lies in an object
store it is asked then, and once in a while before, whether it is still what it was.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.model.remote.blocks import Blocks, Part
from quantrecipe.model.remote.place import RemotePlace
from quantrecipe.remote_files import Place, add_place, add_remote_file, remote_file
from quantrecipe.whole_file import whole_file

__all__ = ["BlockFile", "open_places", "read_heads"]

_FIRST_HEAD = 1 << 18  # bytes: most headers of safetensors whole
_LARGEST_HEAD = 256 << 20  # bytes
_HEADS_AT_ONCE = 16
_AHEAD = 8  # blocks
_FEW = 8  # blocks that nobody read, and that are fetched so that a file can be checked; or an eighth of it
_LOOK_SECONDS = 60.0
"""So often it is asked whether the file is still what it was, while it is read: a night isn't lost."""


class BlockFile:
    """A RemoteFile whose bytes are fetched from a place."""

    def __init__(self, place: RemotePlace, blocks: Blocks) -> None:
        self.size, self.held, self.identity = place.size, 0, place.identity
        self.place = place
        self._blocks, self._key, self._sha256 = blocks, place.key, place.sha256
        # What it has is right, since what the file is is in its path.
        self._head_file, self._head = blocks.head(self._key), b""
        self._count = -(-self.size // blocks.size)
        self._lock = threading.Lock()
        self._hash, self._hashed, self._torn = hashlib.sha256(), 0, False
        self._read: set[int] = set()
        self._expected: list[_Expected] = []
        self._looked = time.monotonic()
        self._in_part = False

    def head(self, start: int, count: int) -> bytes:
        end = min(start + count, self.size)
        with self._lock:
            if end > len(self._head) and self._head_file.is_file():
                self._head = self._head_file.read_bytes()
            have = len(self._head)
            if end > have:
                wanted = min(max(end, _FIRST_HEAD), self.size)
                self._head += self.place.fetch(have, wanted - have)
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
            part, ahead = self._part(number, begin)
            for later in ahead:
                self._blocks.want(self._key, later, self._getting(later))
            here = min(part[2] - begin, len(out))
            self._blocks.read(self._key, part, self._getting(part), begin - part[1], out[:here])
            if part == self._blocks.whole(number):
                self._pass_on(number)
            out, start = out[here:], start + here

    def expect(self, ranges: Sequence[tuple[int, int]]) -> object:
        expected = _Expected(ranges, self._blocks.size)
        self._in_part = True
        self._expected = [*self._expected, expected]  # others may be going through it
        return expected

    def unexpect(self, expected: object) -> None:
        self._expected = [it for it in self._expected if it is not expected]
        for part in expected.parts if isinstance(expected, _Expected) else ():
            if not any(part in other.places for other in self._expected):
                self._blocks.remove(self._key, part)

    def settle(self) -> bool:
        """True if the file has the SHA-256 that the hub says, False where that can't be told, since much wasn't read.

        Where no hash is known, True if nothing else has taken its place. ModelError if it is another file.
        """
        self._require_unchanged()
        if not self.place.hashed:
            return True
        if not self._read:
            return not self._in_part
        if not self._sha256:
            return False
        ahead = range(self._hashed, self._count)
        missing = sum(
            not self._blocks.path(self._key, self._blocks.whole(number)).is_file() for number in ahead
        )
        if missing > max(_FEW, self._count // 8):
            return False
        for number in ahead:
            start, count = self._bytes_of(self._blocks.whole(number))
            self.read_into(memoryview(bytearray(count)), start)
        if self._hashed < self._count:  # something takes blocks away as they come
            return False
        found = self._hash.hexdigest()
        if found != self._sha256 or self._torn:
            self._blocks.throw_away(self._key)
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

    def _part(self, number: int, begin: int) -> tuple[Part, Iterable[Part]]:
        """Where in the blocks a byte is read from, and what is to be ordered as well."""
        for expected in self._expected:
            if (found := expected.part(number, begin)) is not None:
                return found
        if self._expected:  # nobody said that this would be wanted
            return self._blocks.whole(number), ()
        later = range(number + 1, min(number + 1 + _AHEAD, self._count))
        return self._blocks.whole(number), (self._blocks.whole(it) for it in later if it not in self._read)

    def _getting(self, part: Part) -> Callable[[], bytes]:
        return partial(self._get, *self._bytes_of(part))

    def _get(self, start: int, count: int) -> bytes:
        data = self.place.fetch(start, count)
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._require_unchanged()
        return data

    def _bytes_of(self, part: Part) -> tuple[int, int]:
        """The first byte of a block, or of a part of one, and how many it has."""
        number, begin, end = part
        start = number * self._blocks.size + begin
        return start, min(end - begin, self.size - start)

    def _require_unchanged(self) -> None:
        self._looked = time.monotonic()
        try:
            self.place.require_unchanged()
        except ModelError:
            self._blocks.throw_away(self._key)  # some of it may be of the new file
            raise

    def _pass_on(self, number: int) -> None:
        """Let the block through the hash, if it is the next one, and those after it that were read before."""
        self._read.add(number)
        if not self._sha256 or number != self._hashed:
            return
        with self._lock:
            while self._hashed in self._read:
                path = self._blocks.path(self._key, self._blocks.whole(self._hashed))
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


class _Expected:
    """Bytes that are about to be read, as parts of blocks.

    parts:  in the order in which they lie in the file
    places: by part, its number among them
    """

    def __init__(self, ranges: Sequence[tuple[int, int]], size: int) -> None:
        """size: of a block"""
        self.parts: list[Part] = []
        self._by_number: dict[int, list[int]] = {}
        for begin, end in _merged(ranges):
            for number in range(begin // size, -(-end // size)):
                first, last = max(begin - number * size, 0), min(end - number * size, size)
                self._by_number.setdefault(number, []).append(len(self.parts))
                self.parts.append((number, first, last))
        self.places = {part: place for place, part in enumerate(self.parts)}

    def part(self, number: int, begin: int) -> tuple[Part, Iterable[Part]] | None:
        """The part that has this byte of a block, and those that come next; None if it isn't expected."""
        for place in self._by_number.get(number, ()):
            if self.parts[place][1] <= begin < self.parts[place][2]:
                return self.parts[place], self.parts[place + 1 : place + 1 + _AHEAD]
        return None


def _merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same bytes in the fewest ranges, in order."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(it for it in ranges if it[0] < it[1]):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    yield from found


def read_heads(files: Iterable[BlockFile]) -> None:
    """Ask for the headers of safetensors side by side: a model of 600 GB has a hundred, and each takes a moment."""
    with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
        list(pool.map(_read_head, files))


def _read_head(file: BlockFile) -> None:
    length = int.from_bytes(file.head(0, 8), "little")
    file.head(0, 8 + min(length, _LARGEST_HEAD))


def open_places(places: Iterable[tuple[Path, Place]]) -> None:
    """In a worker: have the bytes of these paths come from where they are, unless this machine has them.

    ModelError where another file is there by now, or it can't be had from here.
    """
    blocks: dict[Path, Blocks] = {}
    wanted = []
    for path, place in places:
        there = remote_file(path)
        if there is not None and there.identity == place.identity:  # a worker that is a thread
            continue
        if not isinstance(place, RemotePlace) or _is_here(path, place):
            add_place(path, place)
            continue
        if place.folder not in blocks:
            blocks[place.folder] = Blocks(place.folder)
        add_remote_file(path, BlockFile(place, blocks[place.folder]), place)
        wanted.append(place)
    with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
        list(pool.map(lambda place: place.require_unchanged(), wanted))


def _is_here(path: Path, place: Place) -> bool:
    """The file is in a cache of this machine, whose folder has in its name what the file is."""
    try:
        return place.size > 0 and path.stat().st_size == place.size
    except OSError:
        return False
