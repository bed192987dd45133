"""How messages show what may be long, and what a person may have meant by a name that there isn't.

The work is bounded, since a stranger's file may have a hundred thousand names, and none of them right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

__all__ = ["closest", "listed", "quoted", "shortened", "some_of"]

_LONGEST = 60
"""Characters of a text from a file, so that a message stays on one or two lines of a terminal."""
_MOST_COMPARED = 1000
_MOST_LISTED = 40
_LONGEST_COMPARED = 100


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The text; one of more than `longest` characters ends in "…" instead of its end."""
    return text if len(text) <= longest else f"{text[: longest - 3]}…"


def quoted(text: str, longest: int = _LONGEST) -> str:
    """The same in quotes, with escapes for what isn't printable: for texts that a stranger may have written."""
    return repr(shortened(text, longest))


def some_of(names: Collection[str], most: int, what: str = "more") -> str:
    """ "a, b and 3 more": at most `most` names, and how many are left out; `what` says of what there are more."""
    # One name takes no more room than "and 1 more".
    shown = len(names) if len(names) <= most + 1 else most
    text = ", ".join(islice(names, shown))
    return text if shown == len(names) else f"{text} and {len(names) - shown} {what}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like the word, if any does."""
    close = get_close_matches(word[:_LONGEST_COMPARED], islice(known, _MOST_COMPARED), n=1)
    return close[0] if close else None


def listed(names: Iterable[str]) -> str:
    """Join names by commas; of very many, only the first."""
    first = list(islice(names, _MOST_LISTED + 1))
    return ", ".join(first[:_MOST_LISTED]) + (", …" if len(first) > _MOST_LISTED else "")
