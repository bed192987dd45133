"""KeptLines: an append-only file of JSON lines, for work that is done piece by piece and must outlive its process.

    {"mix": {…}, "disk": 4096, "check": "0123456789abcdef"}

    check   XXH3-64 of the line up to here, so that a changed bit is seen
    disk    so many bytes at the beginning of the file surely were on the disk when the line was written

A line that isn't as it was written, behind what surely was on the disk, is what a crash leaves: it is cut off with all
behind it. Before that it is the disk's fault, or somebody's, and refused: nobody can say what else was touched.

Lines without `check` are of earlier versions. They may be cut off where the next run of such a version has begun.
"""

from __future__ import annotations

import json
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from quantrecipe.errors import OutputError, Problem
from quantrecipe.output.locks import lock, unlock
from quantrecipe.output.write_errors import write_error
from quantrecipe.typed import json_object
from quantrecipe.whole_file import sync_folder

__all__ = ["DamagedLineError", "KeptLine", "KeptLines"]

KeptLine = tuple[int, dict[str, Any]]
"""(its number, counted from 1; what it says)"""

_CHECK = b', "check": "'
_ENDING = len(_CHECK) + 16 + len(b'"}')
_SYNC_SECONDS = 1.0
"""At the most of work is lost when the power is cut; a line that took longer is on the disk at once."""

_CLOSED_FIRST = os.name == "nt"  # Windows removes no open file


class DamagedLineError(Exception):
    """A line isn't as it was written, and no crash does that. problem: for the user"""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"{path}:{line}")
        self.problem = Problem(
            what="this line of the journal is damaged, so what was measured can't be relied on",
            remedy="remove the line: what it held is measured again; or remove the journal",
            file=path,
            line=line,
        )


class KeptLines:
    """Appends; whoever has it locks it. `append` is to be called by one thread at a time.

    lines:   what earlier runs left
    damaged: the number of the line from which on it was cut off, although no crash does that; 0 for none
    """

    def __init__(self, path: Path, *, busy: OutputError, private: bool, forgive: bool = False) -> None:
        """private: for its owner alone, as what is removed when the work is done; else as the umask says.

        forgive: cut off what is damaged, with all behind it: where that comes out the same when it is made again
        `busy` where another process has it; OutputError where it can't be written; DamagedLineError for damage.
        """
        self.path = path
        self.lines: list[KeptLine] = []
        self.damaged = 0
        self._places = [0]  # where each line ends that earlier runs left, and the first begins
        self._size = self._on_disk = self._before = 0
        self._failed: OutputError | None = None
        self._synced_at = 0.0
        self._fd = self._open(busy, private=private)
        try:
            self._read()
            if self.damaged and not forgive:
                raise DamagedLineError(path, self.damaged)
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self.close()
            raise write_error(error, path) from error
        except BaseException:
            self.close()
            raise

    def append(self, said: dict[str, Any]) -> None:
        """Write a line; all of it, or nothing. OutputError."""
        if self._failed is not None:
            raise self._failed
        place = self._size
        try:
            self._write({**said, "disk": self._on_disk})
            if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
                place = self._on_disk  # what the disk couldn't take, it has lost, and says so once only
                self._sync()
        except OSError as error:
            self._failed = write_error(error, self.path)
            with suppress(OSError):  # else the next run cuts it off: nothing is written behind it
                os.ftruncate(self._fd, place)
            raise self._failed from error

    def restart(self, kept: int = 0) -> None:
        """Cut off all but the first lines. OutputError."""
        del self.lines[kept:]
        place = self._places[kept]
        try:
            os.ftruncate(self._fd, place)
        except OSError as error:
            raise write_error(error, self.path) from error
        self._size = self._before = place
        self._on_disk = min(place, self._on_disk)

    def remove(self) -> None:
        """All that it says is elsewhere by now."""
        with suppress(OSError):
            ours = os.path.samestat(os.fstat(self._fd), self.path.lstat())
            if _CLOSED_FIRST:
                self.close()
            if ours:
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Leave it to the next run."""
        if self._fd >= 0:
            if self._failed is None and self._size > self._before:
                self._close_lines()
            unlock(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _close_lines(self) -> None:
        """Note that all of it is on the disk, or keep what is."""
        try:
            self._sync()
            self._write({"disk": self._on_disk})
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._on_disk)

    def _write(self, said: dict[str, Any]) -> None:
        line = _with_check(said)
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._size += len(line)

    def _open(self, busy: OutputError, *, private: bool) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        # Not every system has them. What a link leads to is none of ours, unless the file is the user's for good.
        for name in ("O_CLOEXEC", "O_BINARY", *(["O_NOFOLLOW"] if private else [])):
            flags |= getattr(os, name, 0)
        mode = 0o600 if private else 0o666
        for _ in range(3):
            try:
                fd = os.open(self.path, flags, mode)
            except OSError as error:
                raise write_error(error, self.path) from error
            try:
                self._take(fd, busy)
                if os.path.samestat(os.fstat(fd), self.path.stat()):
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # whoever had it has removed it meanwhile, since all is done: there is a new one
        raise busy

    def _take(self, fd: int, busy: OutputError) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OutputError(f"{self.path} is no regular file", "remove it, or name another file")
        try:
            lock(fd)
        except OSError as error:
            raise busy from error

    def _read(self) -> None:
        """What earlier runs left; `_size` becomes that of what is kept."""
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            *texts, rest = file.read().split(b"\n")
        place, torn = 0, None
        for number, text in enumerate(texts, 1):
            checked, said = _said(text)
            if torn is not None and torn.legacy and not checked and said is not None:
                if "key" not in said:
                    break
                torn = None  # a version without `check` has begun behind a line that was cut off
            if said is None:
                torn = torn or _Torn(number=number, place=place, legacy=not checked and b"\0" not in text)
            else:
                self._on_disk = said.pop("disk", self._on_disk)
                if torn is None and said:
                    self.lines.append((number, said))
                    self._places.append(place + len(text) + 1)
            place += len(text) + 1
        self._size = place if torn is None else torn.place
        if torn is not None and (torn.legacy or torn.place < self._on_disk):
            self.damaged = torn.number
        elif torn is None and rest and place < self._on_disk:
            self.damaged = len(texts) + 1
        self._on_disk = min(self._on_disk, self._size)  # somebody may have taken a line away
        self._before = self._size

    def _sync(self) -> None:
        size = self._size
        os.fsync(self._fd)
        if not self._on_disk:
            sync_folder(self.path.parent)
        self._on_disk, self._synced_at = size, time.monotonic()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Torn:
    """The first line that isn't as it was written. legacy: one of a version without `check`, which wrote all of it."""

    number: int
    place: int
    legacy: bool


def _with_check(said: dict[str, Any]) -> bytes:
    text = json.dumps(said, ensure_ascii=False, allow_nan=False).encode()[:-1]
    return text + _CHECK + xxhash.xxh3_64_hexdigest(text).encode() + b'"}\n'


def _said(line: bytes) -> tuple[bool, dict[str, Any] | None]:
    """(whether it has a check, what it says; None where it isn't as it was written)."""
    text, check, ending = line[:-_ENDING], line[-_ENDING:][: len(_CHECK)], line[-_ENDING:][len(_CHECK) :]
    checked = check == _CHECK
    if checked and ending != xxhash.xxh3_64_hexdigest(text).encode() + b'"}':
        return True, None
    try:
        said = json_object(line)
    except ValueError:
        return checked, None
    if checked:
        del said["check"]
    elif len(said) != 1:  # `check` itself is damaged
        return False, None
    return checked, said
