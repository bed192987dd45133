"""Leases: who makes which unit, as files in a folder that all machines see.

    0007.lease   {"who": "part 3/40 on node7", "token": …}; its time of change says that its holder is alive

A lease is made with O_EXCL, so one alone gets it. A thread touches it as long as its holder lives. What isn't touched
any more, anybody may take over. If a holder that was stopped for a while goes on all the same, two make the same unit,
and therefore the same bytes: leases save work, and correctness doesn't depend on them.

Time is the file system's own: a file is touched, and its time is the present. Machines' clocks may differ and jump. If
the file system's clock jumps, all leases look old or look as if they came from the future, until their holders touch
them. This costs work that is done twice, and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.output.write_errors import write_error

__all__ = ["LEASE_SECONDS", "Lease", "Leases"]

LEASE_SECONDS = 120.0
"""After so long without a sign of life a unit is taken over. NFS shows others' changes a minute late at the worst."""

_TOUCHES = 6
"""Signs of life in that time: some may be late."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """What others see of a lease.

    who:     for people
    touched: the time of its last sign of life
    expired: it may be taken over
    """

    who: str
    token: str
    touched: float
    expired: bool


class Leases:
    """Those of a folder, as one process sees and takes them. A context manager, which gives all back."""

    def __init__(self, folder: Path, who: str, seconds: float = LEASE_SECONDS) -> None:
        self._folder, self._who, self._seconds = folder, who, seconds
        self._token = secrets.token_hex(8)
        self._clock = folder / f"here-{self._token}"

    def close(self) -> None:
        """Leave nothing of this process's own behind."""
        with suppress(OSError):
            self._clock.unlink()

    @property
    def touch_seconds(self) -> float:
        """How often a holder that is alive touches its lease."""
        return self._seconds / _TOUCHES

    def seen(self, number: int, now: float | None = None) -> Lease | None:
        """A unit's lease; None where nobody has it. OutputError where the folder can't be used.

        now: what `now()` said a moment ago; None: it is asked
        """
        try:
            with self._path(number).open("rb") as file:  # to open it has NFS ask the server
                touched = os.fstat(file.fileno()).st_mtime
                text = file.read(1 << 16)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise write_error(error, self._path(number)) from error
        said = {}
        with suppress(ValueError):  # its holder is about to write it
            said = json.loads(text)
        age = (self.now() if now is None else now) - touched
        return Lease(
            who=str(said.get("who", "another process")),
            token=str(said.get("token", "")),
            touched=touched,
            expired=not -self._seconds <= age <= self._seconds,
        )

    @contextmanager
    def take(self, number: int) -> Iterator[bool]:
        """Hold a unit's lease while the block runs; False where another has it."""
        fd = self._acquire(number)
        if fd is None:
            yield False
            return
        end = threading.Event()
        thread = threading.Thread(target=self._touch, args=(number, fd, end), name="lease", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            end.set()
            thread.join()
            os.close(fd)
            seen = self.seen(number)
            if seen is not None and seen.token == self._token:
                with suppress(OSError):
                    self._path(number).unlink()

    def _acquire(self, number: int) -> int | None:
        """The open file of the lease, if it is ours now."""
        path = self._path(number)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        text = json.dumps({"who": self._who, "token": self._token}).encode()
        try:
            try:
                fd = os.open(path, flags | os.O_EXCL, 0o666)
            except FileExistsError:
                seen = self.seen(number)
                if seen is not None and not seen.expired:
                    return None
                ours = path.with_name(f"new-{os.getpid()}-{secrets.token_hex(8)}")
                fd = os.open(ours, flags | os.O_EXCL, 0o666)
                os.write(fd, text)
                ours.replace(path)  # of several that do this at once, the last one has it
                taken = self.seen(number)
                if taken is None or taken.token != self._token:
                    os.close(fd)
                    return None
            else:
                os.write(fd, text)
        except OSError as error:
            raise write_error(error, path) from error
        return fd

    def _touch(self, number: int, fd: int, end: threading.Event) -> None:
        """Show that we are alive: the file that we have made, and not one that another has put in its place."""
        while not end.wait(self.touch_seconds):
            with suppress(OSError):
                os.utime(fd if os.utime in os.supports_fd else self._path(number))

    def now(self) -> float:
        """The present, as the file system has it."""
        try:
            with self._clock.open("ab") as file:
                os.utime(file.fileno() if os.utime in os.supports_fd else self._clock)
                return os.fstat(file.fileno()).st_mtime
        except OSError as error:
            raise write_error(error, self._clock) from error

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.lease"
