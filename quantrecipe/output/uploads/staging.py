"""Staging: the folder of this machine in which files lie until they are in an object store.

    NAME.quantrecipe-upload/NAME.gguf        the file, or its part and journal, as of any output
                            run.json         of which run they are
                            parts.jsonl      where workers send parts: what they have sent (`kept_parts.py`)

A tensor's bytes are written where they belong as soon as they are made, and the header, which has hashes of all of
them, last. A store takes bytes in one order only. So a file is written here first, with all that protects work here: a
run that is killed goes on. An upload that ends early begins anew, without the work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.apply import output_paths
from quantrecipe.output.partfile import part_path
from quantrecipe.output.run_key import run_key
from quantrecipe.output.transform import Handling
from quantrecipe.output.uploads.kept_parts import JOURNAL
from quantrecipe.output.uploads.sending import Outgoing
from quantrecipe.output.write_errors import write_error
from quantrecipe.plan.plan import Plan
from quantrecipe.whole_file import remove_unfinished, whole_file

__all__ = ["Staging", "pieces_of"]

_SUFFIX = ".quantrecipe-upload"
_MARKER = "run.json"
_FORMAT = 1
_PIECE = 4 << 20  # bytes that are read in one go


class Staging:
    """folder: is made by `begin`"""

    def __init__(self, name: str, within: Path | None = None) -> None:
        """name: the last part of the address. within: None for the current folder"""
        self.folder = (within or Path()) / f"{name}{_SUFFIX}"

    def is_finished(self, outputs: Sequence[tuple[Plan, Path]], nan: Handling) -> bool:
        """An earlier run has written all of these files.

        A file has its name only when it is complete, so what has one is. OutputError where those of another run have
        theirs.
        """
        there = [path for path in _paths(outputs) if path.exists()]
        if there and self._said() != _marker(outputs, nan):
            raise OutputError(
                f"{self.folder} holds finished files of another run, which weren't uploaded",
                "move them away if you want them, and remove the folder",
            )
        return len(there) == len(_paths(outputs))

    def begin(self, outputs: Sequence[tuple[Plan, Path]], nan: Handling) -> None:
        """Make the folder, for these files. OutputError where there can be none."""
        try:
            self.folder.mkdir(exist_ok=True)
            with whole_file(self.folder / _MARKER) as file:
                file.write(json.dumps(_marker(outputs, nan)).encode() + b"\n")
        except OSError as error:
            raise write_error(error, self.folder) from error

    def has_files(self, outputs: Sequence[tuple[Plan, Path]]) -> bool:
        """An earlier run has written one of these files here, or has begun to."""
        return any(it.exists() for path in _paths(outputs) for it in (path, part_path(path)))

    @property
    def has_parts(self) -> bool:
        """Workers of an earlier run have sent parts."""
        return (self.folder / JOURNAL).exists()

    def require_no_parts(self) -> None:
        """OutputError where workers of an earlier run have sent parts: nobody else can go on with these."""
        if self.has_parts:
            raise OutputError(
                f"{self.folder} lists what workers of an earlier run have sent already",
                "run it with --executor to go on; to begin anew, remove the folder (the store keeps those parts until "
                "a rule of the bucket removes them)",
            )

    def outgoing(self, outputs: Sequence[tuple[Plan, Path]], folder: ObjectAddress) -> list[Outgoing]:
        """The files that are complete, as they go to a folder of the store."""
        return [
            Outgoing(
                address=folder.child(path.name), nbytes=path.stat().st_size, content=partial(pieces_of, path)
            )
            for path in _paths(outputs)
        ]

    def addresses(self, outputs: Sequence[tuple[Plan, Path]], folder: ObjectAddress) -> list[ObjectAddress]:
        """Where they go to."""
        return [folder.child(path.name) for path in _paths(outputs)]

    def remove(self) -> None:
        """They are where they are to be."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Nothing is kept of what was written."""
        remove_unfinished(self.folder / _MARKER)
        with suppress(OSError):
            if [it.name for it in self.folder.iterdir()] == [_MARKER]:
                self.remove()

    def _said(self) -> Any:
        try:
            return json.loads((self.folder / _MARKER).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise write_error(error, self.folder / _MARKER) from error
        except ValueError:
            return ""


def _marker(outputs: Sequence[tuple[Plan, Path]], nan: Handling) -> dict[str, Any]:
    keys = [run_key(plan, nan=nan) for plan, _ in outputs]
    digest = xxhash.xxh3_128_hexdigest(json.dumps(keys, sort_keys=True).encode())
    return {"quantrecipe-upload": _FORMAT, "run": digest, "files": [it.name for it in _paths(outputs)]}


def _paths(outputs: Sequence[tuple[Plan, Path]]) -> list[Path]:
    return [path for plan, out in outputs for path in output_paths(out, len(plan.files))]


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, in order. OutputError where it can't be read."""
    try:
        with path.open("rb", buffering=0) as file:
            while data := file.read(_PIECE):
                yield data
    except OSError as error:
        raise OutputError(f"{path} can't be read: {error.strerror or error}", "look at the disk") from error
