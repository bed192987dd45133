"""Entries: a file of the store is the tensor's bytes, and behind them a line that says what they are.

    the bytes of the tensor, from 0 on | \\n | XXH3-64 of the JSON, the JSON: {"data": XXH3-128 of the bytes, …} | \\n

The line comes last, since what it says is known last. A file that has no such line at its end is no entry.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import xxhash

from quantrecipe.output.journal_records import MadeTensor

__all__ = ["EntryFacts", "footer", "read_facts"]

_LONGEST = 1 << 20  # bytes of a line: remarks of an encoder on hundreds of experts


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryFacts:
    """What a file says of itself.

    data:     XXH3-128 of its bytes, in hex
    nbytes:   how many these are
    tensor, shape, type: of the tensor that was made first; others with another name may be the same
    remarked: how many of its matrices the encoder made remarks on
    remarks:  the different ones of those
    """

    data: str
    nbytes: int
    tensor: str
    shape: tuple[int, ...]
    type: str
    remarked: int = 0
    remarks: tuple[str, ...] = ()

    def made(self, source: str) -> MadeTensor:
        """The same as what a run notes of a tensor; source: the hash of what is stored in the model."""
        return MadeTensor(source=source, data=self.data, remarked=self.remarked, remarks=self.remarks)


def footer(facts: EntryFacts) -> bytes:
    """What stands behind the bytes."""
    said = {name: getattr(facts, name) for name in EntryFacts.__slots__}
    text = json.dumps(said).encode()
    return b"\n" + xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"


def read_facts(path: Path) -> EntryFacts | None:
    """What a file says of itself; None where it isn't a whole entry. OSError passes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = max(0, size - _LONGEST)
        file.seek(begin)
        end = file.read(_LONGEST)
    if not end.endswith(b"\n"):
        return None
    place = end.rfind(b"\n", 0, -1)
    digest, _, text = end[place + 1 : -1].partition(b" ")
    if place < 0 or digest != xxhash.xxh3_64_hexdigest(text).encode():
        return None
    from quantrecipe.typed import json_object, typed  # msgspec takes time to load

    try:
        facts = typed(json_object(text), EntryFacts)
    except ValueError:  # of another version, or of somebody who knows the hash
        return None
    return facts if facts.nbytes == begin + place else None
