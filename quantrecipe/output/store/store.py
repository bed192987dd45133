"""Store: a folder of encoded tensors, which any number of runs read and add to at the same time.

    FOLDER/quantrecipe-store.json           says that the folder is one, so that nothing else is ever removed
    FOLDER/ab/ab…/0123…                     an entry (`entry.py`): group / rows (`key.py`)
    FOLDER/new/…                            on its way: gets its name when it is whole and on the disk

Two runs that make the same entry both write it, and whoever is last gives it the name: they are the same. An entry is
compared with its hash whenever it is used. What is damaged is told, made again, and replaced. An entry that is open may
be removed by others, and can still be read. What goes wrong while something is added is told, and the run goes on.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.errors import OutputError
from quantrecipe.output.at_offset import read_all, write_all
from quantrecipe.output.locks import lock, unlock
from quantrecipe.output.store.entry import EntryFacts, footer, read_facts
from quantrecipe.output.write_errors import write_error
from quantrecipe.whole_file import mode_of_new, sync_folder, whole_file

__all__ = ["LEAST", "Addition", "Store", "Stored", "open_store"]

MARKER = "quantrecipe-store.json"
NEW = "new"
_SAYS = {"quantrecipe-store": 1}

_NO_MARKER = "remove that file: the next `apply --store` makes it again"
_ENTRIES = re.compile(r"[0-9a-f]{2}")
_GROUP = re.compile(r"[0-9a-f]{32}")

LEAST = 1 << 14
"""Bytes of the smallest tensor that is kept: what is smaller is made as quickly as a file is opened."""


class Store:
    """A store that a run uses.

    added:    entries that this run has added
    problems: what went wrong, for people
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.added = 0
        self.problems: list[str] = []
        self._given_up = False
        self._additions: list[Addition] = []
        self._lock = threading.Lock()

    def path(self, group: str, rows: str) -> Path:
        """Where an entry is, or would be."""
        return self.folder / group[:2] / group / rows

    def may_have(self, group: str) -> bool:
        """Whether it is worth reading the tensor to find out whether the store has it."""
        return (self.folder / group[:2] / group).is_dir()

    def find(self, group: str, rows: str, nbytes: int) -> Stored | None:
        """The entry of these hashes, open. None where there is none, or it can't be used."""
        path = self.path(group, rows)
        try:
            facts = read_facts(path)
            if facts is None or facts.nbytes != nbytes:
                self.tell(f"{path} is damaged")
                return None
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
            with suppress(OSError):  # of a store that can only be read
                os.utime(path)  # what was used last is removed last
        except FileNotFoundError:
            return None
        except OSError as error:
            self.tell(f"{path} can't be read: {error.strerror or error}")
            return None
        return Stored(path=path, facts=facts, fd=fd)

    def add(self) -> Addition | None:
        """A new entry, to be written. None where the store can't be written."""
        if self._given_up:
            return None
        try:
            addition = Addition(self)
        except OSError as error:
            self.give_up(error)
            return None
        with self._lock:
            self._additions.append(addition)
        return addition

    def discard_unfinished(self) -> None:
        """The run ends, and what isn't finished won't be."""
        for addition in self._additions:
            addition.discard()
        self._additions.clear()

    def count(self) -> None:
        """One entry more."""
        with self._lock:
            self.added += 1

    def give_up(self, error: OSError) -> None:
        """Tell why nothing more is added."""
        said = f"nothing more is added to the store {self.folder}: {error.strerror or error}"
        with self._lock:
            if not self._given_up:
                self.problems.append(said)
            self._given_up = True

    def tell(self, problem: str) -> None:
        """Take down what is wrong with an entry."""
        with self._lock:
            self.problems.append(problem)


_SEEKING = threading.Lock()
"""For all entries: what is read of them at a time is a small part of the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An entry that is read. A context manager, which closes it."""

    path: Path
    facts: EntryFacts
    fd: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def read(self, begin: int, out: NDArray[np.uint8]) -> bool:
        """Fill `out` with bytes of the tensor, from one of them on; False where they can't be read."""
        try:
            return read_all(self.fd, out.data, begin, _SEEKING)
        except OSError:
            return False


class Addition:
    """An entry on its way, under a name of its own. A Sink: `write` is thread-safe, and never fails."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.folder / NEW / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._path.parent.mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        for name in ("O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, name, 0)
        self._fd = os.open(self._path, flags, 0o600)  # for its owner alone until it is whole
        with suppress(OSError):  # who tidies up has it at this moment, and leaves it, since it is new
            lock(self._fd)
        self._lock = threading.Lock()
        self._failed: OSError | None = None

    def write(self, data: memoryview, offset: int) -> None:
        """Write at an offset of the tensor."""
        if self._failed is not None:
            return
        try:
            write_all(self._fd, data, offset, self._lock)
        except OSError as error:
            self._failed = error

    def finish(self, group: str, rows: str, facts: EntryFacts) -> None:
        """Have it on the disk, and give it its name. What goes wrong is told, and nothing has the name then."""
        self.write(memoryview(footer(facts)), facts.nbytes)
        try:
            if self._failed is not None:
                raise self._failed
            self._make_public()
            os.fsync(self._fd)
            self._close()
            place = self._store.path(group, rows)
            for attempt in range(3):  # whoever tidies the store up may remove the folder while it is empty
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._path.replace(place)
                    break
                except FileNotFoundError:
                    if attempt == 2 or not self._path.exists():
                        raise
            sync_folder(place.parent)
            self._store.count()
        except OSError as error:
            self._store.give_up(error)
            self.discard()

    def discard(self) -> None:
        """It isn't to be."""
        self._close()
        with suppress(OSError):
            self._path.unlink()

    def _make_public(self) -> None:
        """Let those read it who may read any new file here."""
        if hasattr(os, "fchmod"):
            mode = mode_of_new(self._path.parent)
            with suppress(OSError):  # a file system that has no modes
                os.fchmod(self._fd, mode)

    def _close(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                unlock(self._fd)
            os.close(self._fd)
            self._fd = -1


def open_store(folder: Path, *, create: bool) -> Store:
    """The store in a folder. OutputError where it is another folder, or, unless `create`, where there is none."""
    marker = folder / MARKER
    try:
        if create and not marker.exists():
            folder.mkdir(parents=True, exist_ok=True)
            foreign = not all(map(_is_part_of_a_store, folder.iterdir()))
            if foreign and not marker.exists():  # which another run may have made just now
                raise OutputError(
                    f"{folder} isn't a store, and isn't empty", "name an empty or a new folder with --store"
                )
            with whole_file(marker) as file:
                file.write(json.dumps(_SAYS).encode() + b"\n")
        said = json.loads(marker.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(f"{folder} isn't a store", "`quantrecipe apply --store FOLDER` makes one") from None
    except ValueError as error:
        raise OutputError(f"{marker} is damaged ({error})", _NO_MARKER) from error
    except OSError as error:
        raise write_error(error, marker) from error
    if said != _SAYS:
        raise OutputError(
            f"{marker} is of another version of quantrecipe, or damaged: {json.dumps(said)[:60]}",
            f"use another folder; if it is damaged, {_NO_MARKER}",
        )
    return Store(folder)


def _is_part_of_a_store(path: Path) -> bool:
    """Whether it may lie in a store, so that a marker that was lost can be made again."""
    if path.name.startswith(MARKER) or path.name == NEW:
        return True
    if not _ENTRIES.fullmatch(path.name) or not path.is_dir():
        return False
    groups = [it.name for it in path.iterdir()]
    return all(_GROUP.fullmatch(name) and name.startswith(path.name) for name in groups)


def digest_of_file(path: Path, nbytes: int) -> str:
    """XXH3-128 of its first bytes, in hex. OSError passes."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while nbytes > 0 and (piece := file.read(min(nbytes, 1 << 20))):
            digest.update(piece)
            nbytes -= len(piece)
    return digest.hexdigest()
