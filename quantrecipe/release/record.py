"""Record: what was done of a release, and what each step depended on, so that a second run does only what changed.

    FOLDER/.quantrecipe-release/record.json      {"version": 1, "steps": {"matrix": {"key": …, "result": …}, …}}

A step's key is a digest of all that its result depends on. The record is written after every step: a run that was
killed goes on behind the last one. It is for this machine, and isn't published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.errors import OutputError
from quantrecipe.plain_data import plain
from quantrecipe.typed import json_object
from quantrecipe.whole_file import whole_file

__all__ = ["WORK_FOLDER", "FileState", "Record", "key_of", "state_of"]

WORK_FOLDER = ".quantrecipe-release"
_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """A file as it was when it was hashed: as long as size and time are the same, its hash is taken to be."""

    nbytes: int
    mtime_ns: int


class Record:
    """The steps of one release folder. A record that can't be read counts as none: everything is done again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WORK_FOLDER / "record.json"
        self._steps: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError):
            document = json_object(self._path.read_bytes())
            if document.get("version") == _VERSION:
                steps = document["steps"]
                self._steps = {name: it for name, it in steps.items() if {"key", "result"} <= it.keys()}

    def result(self, step: str, key: str) -> Any:
        """What the step came to, where it was done and depended on the same; else None."""
        found = self._steps.get(step)
        return found["result"] if found is not None and found["key"] == key else None

    def knows(self, step: str) -> bool:
        """Whether it was ever begun, whatever it depended on."""
        return step in self._steps

    def latest(self, step: str) -> Any:
        """What the step came to at last, whatever it depended on; None where it wasn't done."""
        return self._steps[step]["result"] if step in self._steps else None

    def steps(self, prefix: str) -> Sequence[str]:
        """The names of steps that begin so, in the order in which they were done first."""
        return [name for name in self._steps if name.startswith(prefix)]

    def put(self, step: str, key: str, result: Any) -> None:
        """Note a step. OutputError where the record can't be written."""
        self._steps[step] = {"key": key, "result": plain(result)}
        self._write()

    def drop(self, steps: Sequence[str]) -> None:
        """Forget steps that aren't part of the release any more."""
        if steps:
            for step in steps:
                del self._steps[step]
            self._write()

    def _write(self) -> None:
        text = json.dumps({"version": _VERSION, "steps": self._steps}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._path) as file:
                file.write(text.encode())
        except OSError as error:
            what = f"can't be written: {error.strerror or error}"
            raise OutputError(what, "name another folder with --to", file=self._path) from error


def key_of(**what: Any) -> str:
    """Make the digest of everything that a step depends on."""
    text = json.dumps(plain(what), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def state_of(path: Path) -> FileState | None:
    """How a file is now; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return FileState(nbytes=found.st_size, mtime_ns=found.st_mtime_ns)
