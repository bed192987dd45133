"""Imported: a recipe that was made of something else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Imported", "wrapped"]

_WIDTH = 108


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """text: the recipe; notes: what couldn't be taken over as it was, for whoever imports it; rules: how many."""

    text: str
    notes: tuple[str, ...] = ()
    rules: int = 0


def wrapped(lines: Iterable[str]) -> list[str]:
    """Comments as lines that fit."""
    return [part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ") or [""]]
