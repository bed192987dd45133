"""Names in less room: what all of them share is left out, then their middles; two that differ never look alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from os.path import commonpath
from pathlib import Path

from rich.cells import cell_len

__all__ = ["head_of", "shared_parts", "shorten", "within_folder"]


def shared_parts(names: Iterable[str]) -> tuple[str, str]:
    """What all names begin and end with, in whole words, so that something of each is left: ("Qwen3-14B-", ".gguf").

    Nothing where there is only one name. An underscore ends no word: Q4_K_M is one.
    """
    different = set(names)
    if len(different) < 2:
        return "", ""
    before = re.sub(r"[^-./\\ ]*$", "", _common(different))
    after = _common({name[len(before) :][::-1] for name in different})[::-1]
    after = re.sub(r"^[^-./\\ ]*", "", after)
    if any(len(name) <= len(before) + len(after) for name in different):
        after = ""
    if any(len(name) <= len(before) for name in different):
        before = ""
    return before, after


def shorten(names: Sequence[str], width: int) -> list[str] | None:
    """Each name in at most `width` cells, … where its middle was; None where two that differ would look alike."""
    if all(cell_len(name) <= width for name in names):
        return list(names)
    for head in sorted(range(1, width - 1), key=lambda head: abs(2 * head - width)):
        cut = [_cut(name, head, width) for name in names]
        if len(set(cut)) == len(set(names)):
            return cut
    return None


def within_folder(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """The folder that all files are in, "" for the current one, and their paths from there."""
    try:
        folder = commonpath([path.parent for path in paths])
    except ValueError:  # none at all, some absolute, or of several drives
        folder = ""
    return folder, [str(path.relative_to(folder)) if folder else str(path) for path in paths]


def _common(names: Collection[str]) -> str:
    """What all begin with: what the first and the last of them in order begin with."""
    first, last = min(names), max(names)
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _cut(name: str, head: int, width: int) -> str:
    if cell_len(name) <= width:
        return name
    return f"{head_of(name, head)}…{head_of(name[::-1], width - 1 - head)[::-1]}"


def head_of(text: str, width: int) -> str:
    """As much of the text as fits into `width` cells."""
    end = used = 0
    while end < len(text) and (used := used + cell_len(text[end])) <= width:
        end += 1
    return text[:end]
