"""Shelf: what a store has, or gets, of one tensor. Without a store, and for what isn't worth it, nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quantrecipe.model.source.reading import Reading
from quantrecipe.output.jobs import Encoding
from quantrecipe.output.journal_records import MadeTensor
from quantrecipe.output.passes import StoredRows
from quantrecipe.output.store.entry import EntryFacts
from quantrecipe.output.store.key import group_of
from quantrecipe.output.store.store import LEAST, Store, Stored

__all__ = ["Shelf"]


class Shelf:
    """To be asked before the tensor is read, and told when it is made."""

    def __init__(self, store: Store | None, rows: StoredRows, encodings: Sequence[Encoding]) -> None:
        """Reads the tensor's first row, if the store could have any of the encodings."""
        self._store = store
        self._groups: dict[str, str] = {}  # by digest of the encoding
        worth = [] if store is None else [it for it in encodings if _is_worth_it(it)]
        if worth:
            reading = Reading(rows.reader, tensor=rows.tensor.name)
            first = rows.source.read(0, rows.source.together, reading)[0]
            rows.tell(0, reading.nbytes, 0)
            for it in worth:
                a = it.jobs[0].assignment
                self._groups[it.digest] = group_of(a, rows.format.spec, rows.times, first)

    @property
    def wants_hash(self) -> bool:
        """Whether the hash of all rows will be asked for."""
        return bool(self._groups)

    def may_have(self, encoding: Encoding) -> bool:
        """Whether it is worth waiting for that hash, and to look then."""
        group = self._groups.get(encoding.digest)
        return self._store is not None and group is not None and self._store.may_have(group)

    def find(self, encoding: Encoding, rows: str) -> Stored | None:
        """The encoding of the rows that have this hash, open."""
        group = self._groups.get(encoding.digest)
        if self._store is None or group is None:
            return None
        return self._store.find(group, rows, encoding.jobs[0].assignment.nbytes)

    def damaged(self, stored: Stored) -> None:
        """What was found isn't what was written."""
        if self._store is not None:
            self._store.tell(
                f"{stored.path} has other bytes than were written, so it is made again and replaced"
            )

    def adding(self, encoding: Encoding) -> Encoding:
        """The encoding, whose bytes go to the store as well when it is made."""
        if self._store is None or encoding.digest not in self._groups:
            return encoding
        return replace(encoding, addition=self._store.add())

    def keep(self, encoding: Encoding, made: MadeTensor, rows: str) -> None:
        """It is made of the rows that have this hash. What lost values isn't kept: for other runs it is an error."""
        if encoding.addition is None:
            return
        if made.lost:
            encoding.addition.discard()
            return
        a = encoding.jobs[0].assignment
        facts = EntryFacts(
            data=made.data,
            nbytes=a.nbytes,
            tensor=a.tensor.name,
            shape=a.tensor.shape,
            type=a.type,
            remarked=made.remarked,
            remarks=made.remarks,
        )
        encoding.addition.finish(self._groups[encoding.digest], rows, facts)


def _is_worth_it(encoding: Encoding) -> bool:
    """False for floats, which are made as quickly as copied, for what has factors beside it, and for what is small."""
    spec, nbytes = encoding.format.spec, encoding.jobs[0].assignment.nbytes
    return not encoding.copied and not encoding.companions and spec.block > 1 and nbytes >= LEAST
