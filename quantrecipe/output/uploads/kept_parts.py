"""KeptParts: what a run whose workers send parts has done, so that the same command goes on.

    parts.jsonl       which uploads were begun, how the work is cut, and which units and parts are done
    000007.edges      what unit 7 has of parts that it shares, until these are sent

A unit counts as done if the store still has its parts, and what it shares with others is sent, too, or lies here as it
was returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from quantrecipe.errors import ModelError, OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.kept_lines import KeptLines
from quantrecipe.output.run_key import difference
from quantrecipe.output.shares.layout import Layout, PartPlace, Segment
from quantrecipe.output.shares.make import MadeUnit
from quantrecipe.output.shares.piece import said_of, unit_of
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.output.uploads.into_upload import UploadedUnit
from quantrecipe.output.uploads.multipart import Multipart, SentPart
from quantrecipe.output.write_errors import write_error
from quantrecipe.whole_file import remove_unfinished, whole_file

__all__ = ["JOURNAL", "KeptParts"]

JOURNAL = "parts.jsonl"
_EDGES = ".edges"
_FORMAT = 1
_PRIVATE = 0o600
_SAID_BY_ANOTHER = "another version of quantrecipe"


class KeptParts:
    """The folder of a run, which is there; whoever has it holds the lock of its journal.

    uploads: of an earlier run of the same, which the store still has, or that were begun by now
    cut:     bytes of a unit, as an earlier run has chosen them; 0 for none
    made:    units that are done, by number
    parts:   those that the store has
    other:   what the journal was of, where it is of another run; its uploads were given up
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], layout: Layout) -> None:
        """key: what the bytes depend on. OutputError where the folder can't be written to."""
        self.folder, self._key, self._layout = folder, dict(key), layout
        busy = OutputError(f"another process is writing to {folder}", "wait for it, or name another file")
        self._journal = KeptLines(folder / JOURNAL, busy=busy, private=True, forgive=True)
        self.uploads: list[Multipart] = []
        self.cut = 0
        self.made: dict[int, MadeUnit] = {}
        self.parts: dict[PartPlace, SentPart] = {}
        self.other = ""
        self._digests: dict[int, str] = {}
        self._listed: list[dict[int, tuple[int, str]] | None] = []
        try:
            self._read([said for _, said in self._journal.lines])
        except BaseException:
            self._journal.close()
            raise

    @property
    def empty(self) -> bool:
        """Nothing is done."""
        return not self.made

    def begin(self, addresses: Iterable[ObjectAddress]) -> None:
        """Begin an upload for each file, and note them. OutputError where nothing may be written there."""
        for address in addresses:
            self.uploads.append(Multipart.begin(address))  # given up, too, if the next one is refused
        said = [[str(it.address), it.upload] for it in self.uploads]
        part_bytes = self._layout.part_bytes
        self._journal.append(
            {"quantrecipe-parts": _FORMAT, "key": self._key, "part_bytes": part_bytes, "uploads": said}
        )

    def add_cut(self, nbytes: int) -> None:
        """Note how large units are."""
        self.cut = nbytes
        self._journal.append({"cut": nbytes})

    def add_unit(self, done: UploadedUnit) -> None:
        """Keep what a worker has returned of a unit, and note that it is done."""
        path = self._path(done.made.number)
        if done.edges.nbytes:
            try:
                with whole_file(path, mode=_PRIVATE) as file:
                    file.write(done.edges.data)
            except OSError as error:
                raise write_error(error, path) from error
        parts = [_said(file, part) for file, part in done.parts]
        self._journal.append({"unit": said_of(done.made), "edges": done.digest, "parts": parts})
        self._add(done.made, done.digest, done.parts)

    def add_part(self, file: int, part: SentPart) -> None:
        """Note that a part is there which several share."""
        self._journal.append({"part": _said(file, part)})
        self.parts[file, part.number] = part

    def edges(self, number: int) -> bytes:
        """What a unit has of parts that it shares. OutputError where it isn't what was kept."""
        data = self._found(number)
        if data is None:
            raise OutputError(
                f"{self._path(number)} is damaged: it isn't as it was written", "look at the disk"
            )
        return data

    def remove_edges(self, number: int) -> None:
        """All parts that the unit shares are sent."""
        with suppress(OSError):
            self._path(number).unlink()

    def keep(self) -> None:
        """Leave it to the next run."""
        self._journal.close()

    def remove(self, *, give_up: bool) -> None:
        """Nothing of it is needed any more. give_up: what was sent isn't, either."""
        if give_up:
            for upload in self.uploads:
                upload.give_up()
        self._clear()
        self._journal.remove()

    def settle(self, units: Sequence[WorkUnit]) -> None:
        """Forget the units that aren't done after all: of which the store has lost parts, or that weren't kept here.

        units: all of the plan, by number
        """
        for place, part in list(self.parts.items()):
            there = self._listed[place[0]] or {}
            if there.get(part.number) != (part.nbytes, part.etag):
                del self.parts[place]
        for number in list(self.made):
            if not self._is_done(units[number]):
                del self.made[number]
                self.remove_edges(number)

    def _is_done(self, unit: WorkUnit) -> bool:
        layout = self._layout
        found = layout.of(unit)
        own = [part for own in found.own for part in layout.by_part(own)]
        if not all(layout.place(part) in self.parts for part in own):
            return False
        return self._sent(found.edges) or self._found(unit.number) is not None

    def _sent(self, edges: Iterable[Segment]) -> bool:
        return all(self._layout.place(edge) in self.parts for edge in edges)

    def _found(self, number: int) -> bytes | None:
        """The edges of a unit as they were returned; None where they aren't here."""
        try:
            data = self._path(number).read_bytes()
        except FileNotFoundError:
            data = b""  # a unit without any
        except OSError:
            return None
        return data if xxhash.xxh3_128_hexdigest(data) == self._digests.get(number) else None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{_EDGES}"

    def _clear(self) -> None:
        for path in self.folder.glob(f"*{_EDGES}*"):
            with suppress(OSError):
                path.unlink()

    def _add(self, made: MadeUnit, digest: str, parts: Iterable[tuple[int, SentPart]]) -> None:
        self.made[made.number], self._digests[made.number] = made, digest
        for file, part in parts:
            self.parts[file, part.number] = part

    def _read(self, lines: Sequence[dict[str, Any]]) -> None:
        """What an earlier run has left; what is of another one is given up."""
        if not lines:
            return
        first, uploads = lines[0], list[Multipart]()
        try:
            uploads = [
                Multipart(address=ObjectAddress.parse(url), upload=str(upload))
                for url, upload in first["uploads"]
            ]
            if first["quantrecipe-parts"] != _FORMAT:
                self.other = _SAID_BY_ANOTHER
            elif first["key"] != self._key:
                self.other = difference(first["key"], self._key)
            elif first["part_bytes"] != self._layout.part_bytes:
                self.other = "parts of another size"
            else:
                self._take(lines[1:])
        except (ModelError, KeyError, TypeError, ValueError, AttributeError):  # sound, and not as we write it
            self.other = _SAID_BY_ANOTHER
        if not self.other:
            self.uploads = uploads
            self._listed = [self._parts_there(number) for number in range(len(uploads))]
            if any(it is None for it in self._listed):
                self.other = "an upload that the store doesn't know any more"
        if self.other:
            for upload in uploads:
                upload.give_up()
            self._clear()
            self._journal.restart()
            self.uploads, self.cut, self.made, self.parts, self._digests = [], 0, {}, {}, {}

    def _take(self, lines: Sequence[dict[str, Any]]) -> None:
        for said in lines:
            if "cut" in said:
                self.cut = said["cut"]
            elif "part" in said:
                file, part = _part_of(said["part"])
                self.parts[file, part.number] = part
            else:
                self._add(unit_of(said["unit"]), said["edges"], map(_part_of, said["parts"]))
        for number in self.made:
            remove_unfinished(self._path(number))

    def _parts_there(self, file: int) -> dict[int, tuple[int, str]] | None:
        """What the store has of a file; of one that has its name already, all. None where it has nothing."""
        upload = self.uploads[file]
        there = upload.listed()
        noted = [self.parts[place] for place in sorted(self.parts) if place[0] == file]
        if there is None and noted and upload.is_there(noted):
            return {part.number: (part.nbytes, part.etag) for part in noted}
        return there


def _said(file: int, part: SentPart) -> list[Any]:
    return [file, part.number, part.nbytes, part.md5, part.etag]


def _part_of(said: Sequence[Any]) -> tuple[int, SentPart]:
    file, number, nbytes, md5, etag = said
    return file, SentPart(number=number, nbytes=nbytes, md5=md5, etag=etag)
