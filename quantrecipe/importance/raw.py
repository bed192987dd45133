"""What the parsers of both layouts hand over: where the values lie, not yet looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantrecipe.importance.provenance import Provenance

__all__ = ["RawEntry", "RawImportance"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawEntry:
    """One tensor's entry: `size` float32 values at `offset`, to be divided by `counts`."""

    name: str
    size: int
    counts: tuple[int, ...]
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RawImportance:
    """A file's entries, in its order, and what it says of itself."""

    layout: Literal["gguf", "dat"]
    entries: tuple[RawEntry, ...]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_size: int = 0
    others: tuple[str, ...] = ()
    provenance: Provenance | None = None
