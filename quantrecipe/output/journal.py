"""Journal: which rows of an output are made, beside its part, so that the same command goes on after a crash.

A record (`journal_records`) is written when the bytes that it is about are; whoever goes on compares the bytes with its
hash. So it doesn't matter what of both a power cut takes.

What is damaged behind the last bytes that surely were on the disk is what a crash leaves: it is cut off, and made
again. Damage before that is the disk's, and named.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantrecipe.errors import OutputError
from quantrecipe.output.journal_records import (
    FirstRows,
    MadeRows,
    MadeShare,
    MadeTensor,
    line_of,
    record_of,
    torn_at_once,
)
from quantrecipe.output.write_errors import write_error

__all__ = ["Journal", "journal_path"]

_SUFFIX = ".quantrecipe-journal"

_ENCODER = json.JSONEncoder(separators=(",", ":"))

Key = dict[str, Any]
Other = Callable[[Key, Key], str]


def journal_path(path: Path) -> Path:
    """The name that the journal of a file has while the file is written. Shards have the journal of their first."""
    return path.with_name(path.name + _SUFFIX)


class Journal:
    """Appends, from any thread. Who opens it holds the lock of the part that it is beside.

    rows:  by tensor and (start, stop): what an earlier run made of tensors that it didn't finish
    first: by tensor and number of rows: the same, of first rows
    done:  by tensor: what it finished
    cut:   bytes of the units of an executor's workers, if an earlier run had some; else 0
    shares: by tensor and (start, stop): what such workers made of tensors that were cut
    sources: by tensor: the hash of what those are made from
    noted: the tensors that are finished by now
    noted_rows: by tensor: rows of others that are there by now
    empty: True as long as nothing is made, neither by an earlier run nor by this one
    other: what the journal was of, where nothing of it can be used; "" where it can, or there was none
    """

    def __init__(self, path: Path, key: Key, other: Other) -> None:
        """key: what the bytes depend on, as JSON has it; `other(old, key)` says in which way an old one differs.

        OutputError where it can't be read or written, or is damaged.
        """
        self.path = path
        self._forget()
        self.other = ""
        self._lock = threading.Lock()
        self._failed: OutputError | None = None
        self._size = 0
        self._key = json.loads(json.dumps(key))
        self._fd = self._open()
        try:
            self._read(self._key, other)
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, self._size, os.SEEK_SET)
            if not self._size:
                self._begin()
        except OSError as error:
            self.close()
            raise write_error(error, path) from error
        except BaseException:
            self.close()
            raise

    def add_rows(self, tensor: int, start: int, stop: int, made: MadeRows) -> None:
        """Note that these rows are in the part."""
        if made.remark is None:  # written by hand, since there is one of these for each unit of rows
            text = f'["rows",{tensor},{start},{stop},"{made.digest}","{made.source}",{made.lost}]'
            self._write(line_of(text.encode()))
        else:
            self._append("rows", tensor, start, stop, made.digest, made.source, made.lost, *made.remark)
        self._count(tensor, stop - start)

    def add_first(self, tensor: int, made: FirstRows) -> None:
        """Note that the first rows of a tensor are in the part."""
        text = f'["first",{tensor},{made.stop},"{made.data}","{made.source}",{made.lost}]'
        self._write(line_of(text.encode()))
        self._count_first(tensor, made.stop)

    def add_done(self, tensor: int, made: MadeTensor) -> None:
        """Note that this tensor is in the part."""
        said = {name: getattr(made, name) for name in MadeTensor.__slots__}
        self._append("done", tensor, said)
        self._count(tensor)

    def add_cut(self, nbytes: int) -> None:
        """Note that an executor's workers make units of so many bytes."""
        self.cut = nbytes
        self._append("cut", nbytes)

    def add_share(self, tensor: int, start: int, stop: int, made: MadeShare) -> None:
        """Note that rows of a tensor that a worker has made are in the part."""
        self._append("share", tensor, start, stop, made.data, made.lost, made.said)
        self._count(tensor, stop - start)

    def add_source(self, tensor: int, digest: str) -> None:
        """Note the hash of what a tensor is made from of which there are shares."""
        self._append("source", tensor, digest)

    def restart(self) -> None:
        """Forget what earlier runs noted."""
        self._forget()
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._size = 0
            self._begin()
        except OSError as error:
            raise write_error(error, self.path) from error

    def sync(self) -> None:
        """Have the system put on the disk what was noted. To be called when the part's bytes of it are there."""
        size = self._size
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._fail(error) from error
        self._append("disk", size)

    def void(self, error: OutputError) -> None:
        """Take back all that it says: the disk has lost what was written, and nobody knows what."""
        with self._lock, suppress(OSError):
            self._failed = self._failed or error
            os.ftruncate(self._fd, 0)

    def remove(self) -> None:
        """The output has its name, or is given up."""
        with suppress(OSError):
            ours = self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self.path.lstat())
            self.close()  # Windows removes no open file
            if ours:  # and not of a run that has begun since
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Leave it to the next run."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _forget(self) -> None:
        self.rows: dict[int, dict[tuple[int, int], MadeRows]] = {}
        self.first: dict[int, dict[int, FirstRows]] = {}
        self.done: dict[int, MadeTensor] = {}
        self.cut = 0
        self.shares: dict[int, dict[tuple[int, int], MadeShare]] = {}
        self.sources: dict[int, str] = {}
        self.empty = True
        self.noted: set[int] = set()
        self.noted_rows: dict[int, int] = {}

    def _begin(self) -> None:
        self._append("key", self._key)
        os.fsync(self._fd)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT
        for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # not every system has them
            flags |= getattr(os, name, 0)
        try:
            fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise write_error(error, self.path) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(fd)
            raise self._in_the_way()
        return fd

    def _in_the_way(self) -> OutputError:
        return OutputError(
            f"{self.path} is in the way, and isn't the journal of a stopped run",
            "remove it, or name another file",
        )

    def _read(self, key: Key, other: Other) -> None:
        """What earlier runs left. `_size` becomes that of what is kept."""
        damaged = at = on_disk = 0
        foreign = False
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                record = record_of(line)
                if record is None or (number == 1) != (record[0] == "key"):
                    foreign = foreign or (number == 1 and not torn_at_once(line))
                    if not damaged:
                        damaged, self._size = number, at
                elif record[0] == "key":
                    if record[1] != key:
                        self.other = other(record[1], key)
                        return
                elif record[0] == "disk":
                    on_disk = max(on_disk, record[1])
                elif not damaged:
                    self._take(record)
                at += len(line)
        if not damaged:
            self._size = at
        elif self._size < on_disk:
            raise OutputError(
                f"{self.path}:{damaged}: this line of the journal is damaged, which no crash does: it was on the disk",
                f"look at the disk; remove {self.path.name} to start over",
            )
        elif foreign:
            raise self._in_the_way()

    def _take(self, record: list[Any]) -> None:
        kind, tensor, *rest = record
        if kind == "cut":
            self.cut = tensor
        elif kind == "source":
            self.sources[tensor] = rest[0]
        elif kind == "first":
            stop, data, source, lost = rest
            made_first = FirstRows(stop=stop, data=data, source=source, lost=lost)
            self.first.setdefault(tensor, {})[stop] = made_first
            self._count_first(tensor, stop)
        elif kind == "share":
            start, stop, data, lost, said = rest
            share = MadeShare(data=data, lost=lost, said=said)
            self.shares.setdefault(tensor, {})[start, stop] = share
            self._count(tensor, stop - start)
        elif kind == "rows":
            start, stop, digest, source, lost, *said = rest
            remark = (said[0], said[1]) if said else None
            made = MadeRows(digest=digest, source=source, lost=lost, remark=remark)
            self.rows.setdefault(tensor, {})[start, stop] = made
            self._count(tensor, stop - start)
        else:
            self.done[tensor] = rest[0]
            for unfinished in (self.rows, self.first):  # of which memory has no others
                unfinished.pop(tensor, None)
            self._count(tensor)

    def _count(self, tensor: int, rows: int | None = None) -> None:
        with self._lock:
            self.empty = False
            if rows is None:
                self.noted.add(tensor)
                self.noted_rows.pop(tensor, None)
            elif tensor not in self.noted:
                self.noted_rows[tensor] = self.noted_rows.get(tensor, 0) + rows

    def _count_first(self, tensor: int, rows: int) -> None:
        with self._lock:
            self.empty = False
            if tensor not in self.noted:  # some of them may have been noted by themselves, too
                self.noted_rows[tensor] = max(rows, self.noted_rows.get(tensor, 0))

    def _append(self, *record: Any) -> None:
        self._write(line_of(_ENCODER.encode(record).encode()))

    def _write(self, line: bytes) -> None:
        with self._lock:
            if self._failed is not None:
                raise self._failed
            try:
                written = os.write(self._fd, line)
                while written < len(line):
                    written += os.write(self._fd, line[written:])
            except OSError as error:
                with suppress(OSError):  # else the next run cuts it off: nothing is written behind it
                    os.ftruncate(self._fd, self._size)
                self._failed = write_error(error, self.path)
                raise self._failed from error
            self._size += len(line)

    def _fail(self, error: OSError) -> OutputError:
        with self._lock:
            self._failed = self._failed or write_error(error, self.path)
            return self._failed
