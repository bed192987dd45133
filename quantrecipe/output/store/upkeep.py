"""What is in a store, whether it is sound, and how it is kept small. Other runs may use it meanwhile.

Entries that weren't used for the longest time are removed first. A file on its way that nobody has written to for a
day, and that no process holds, is what a run that was killed has left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.output.locks import lock, unlock
from quantrecipe.output.store.entry import EntryFacts, read_facts
from quantrecipe.output.store.store import NEW, Store, digest_of_file

__all__ = ["Found", "Removed", "damage_of", "entries_of", "shrink"]

_LEFT_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """An entry.

    facts: None where the file isn't one
    size:  of the file, in bytes
    used:  when it was used last, in seconds since 1970
    """

    path: Path
    facts: EntryFacts | None
    size: int
    used: float

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        facts = self.facts
        return {
            "path": str(self.path),
            "tensor": None if facts is None else facts.tensor,
            "shape": None if facts is None else facts.shape,
            "type": None if facts is None else facts.type,
            "size": self.size,
            "used": round(self.used),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What was removed, or would be: entries, files on their way that nobody writes, and their bytes.

    kept, kept_bytes: the entries that stay
    """

    entries: int
    unfinished: int
    nbytes: int
    kept: int
    kept_bytes: int


def entries_of(store: Store) -> Iterator[Found]:
    """All entries, by name. One that is removed meanwhile is left out."""
    for path in sorted(store.folder.glob("[0-9a-f][0-9a-f]/*/*")):
        with suppress(FileNotFoundError):
            status = path.stat()
            yield Found(path=path, facts=read_facts(path), size=status.st_size, used=status.st_mtime)


def damage_of(found: Found) -> str:
    """What is wrong with an entry, "" where nothing is. All of it is read."""
    if found.facts is None:
        return "isn't a whole entry"
    try:
        digest = digest_of_file(found.path, found.facts.nbytes)
    except FileNotFoundError:
        return ""  # somebody has tidied up
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    return "" if digest == found.facts.data else "has other bytes than were written"


def shrink(store: Store, most: int, *, dry_run: bool = False, now: float | None = None) -> Removed:
    """Remove what was used longest ago until the entries have `most` bytes; and what killed runs left unfinished."""
    found = sorted(entries_of(store), key=lambda it: (it.used, it.path))
    total = sum(it.size for it in found)
    kept = len(found)
    entries = unfinished = nbytes = 0
    for it in found:
        if total <= most:
            break
        if not dry_run and not _remove(it.path):
            continue
        entries, nbytes, total, kept = entries + 1, nbytes + it.size, total - it.size, kept - 1
    now = time.time() if now is None else now
    for path in (store.folder / NEW).glob("*"):
        with suppress(OSError):
            status = path.stat()
            old = now - status.st_mtime > _LEFT_SECONDS and not _is_held(path)
            if old and (dry_run or _remove(path)):
                unfinished, nbytes = unfinished + 1, nbytes + status.st_size
    return Removed(entries=entries, unfinished=unfinished, nbytes=nbytes, kept=kept, kept_bytes=total)


def _is_held(path: Path) -> bool:
    """Whether a run is still at it, however old it seems: clocks jump. OSError passes."""
    fd = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        lock(fd)
        unlock(fd)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _remove(path: Path) -> bool:
    """Remove a file, and its folder if that is empty then. False where the system doesn't (Windows, if it is open)."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    if path.parent.name != NEW:
        with suppress(OSError):  # it has others
            path.parent.rmdir()
    return True
