"""Numbers of layers as text, and back: 0, 1, 2, 7 ↔ "0-2, 7". Shape files, lock files and tables have them so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["layer_ranges", "layer_runs", "read_layer_ranges"]

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


def layer_runs(layers: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last number of each run: [0, 1, 2, 7] → [(0, 2), (7, 7)]."""
    runs: list[tuple[int, int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], layer)
        else:
            runs.append((layer, layer))
    return runs


def layer_ranges(layers: Iterable[int]) -> str:
    """[0, 1, 2, 7] → "0-2, 7"."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in layer_runs(layers))


def read_layer_ranges(text: str) -> Iterator[int]:
    """ "0-2, 7" → 0, 1, 2, 7. ValueError where the text isn't like that.

    They come one by one: a stranger's file may ask for billions, and whoever reads it takes as many as it allows.
    """
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ValueError(f"layers {part.strip()[:60]!r}")
        yield from range(first, last + 1)
