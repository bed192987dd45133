"""Where each tensor's data lies in the file: one after the other, each at a multiple of the alignment."""

from __future__ import annotations

from collections.abc import Iterable

from quantrecipe.gguf.write import padded

__all__ = ["offsets"]


def offsets(sizes: Iterable[int], alignment: int) -> tuple[list[int], int]:
    """Offsets from the start of the data, and the length of the data, last padding included."""
    result, end = [], 0
    for size in sizes:
        result.append(end)
        end = padded(end + size, alignment)
    return result, end
