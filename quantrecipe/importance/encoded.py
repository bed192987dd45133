"""EncodedImportance: a file's size, known before anything is read, and its bytes, a tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quantrecipe.importance.matrix import Layout

__all__ = ["EncodedImportance"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImportance:
    """An importance matrix on its way to a file.

    nbytes: size of the file
    pieces: its bytes in order
    lost:   what the layout has no place for, in words
    """

    layout: Layout
    nbytes: int
    pieces: Callable[[], Iterator[bytes]]
    lost: tuple[str, ...] = ()
