"""What a person may have meant by a name that there isn't.

The work is bounded, since recipes may have a hundred thousand names, and none of them right.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

__all__ = ["closest", "listed"]

_MOST_COMPARED = 1000
_MOST_LISTED = 40
_LONGEST = 100


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like the word, if any does."""
    close = get_close_matches(word[:_LONGEST], islice(known, _MOST_COMPARED), n=1)
    return close[0] if close else None


def listed(names: Iterable[str]) -> str:
    """Join names by commas; of very many, only the first."""
    first = list(islice(names, _MOST_LISTED + 1))
    return ", ".join(first[:_MOST_LISTED]) + (", …" if len(first) > _MOST_LISTED else "")
