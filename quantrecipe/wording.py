"""How messages show what may be long: texts are cut, and of many names only the first are listed."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

__all__ = ["quoted", "shortened", "some_of"]

_LONGEST = 60
"""Characters of a text from a file, so that a message stays on one or two lines of a terminal."""


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
