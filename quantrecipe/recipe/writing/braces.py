"""Names of tensors as few patterns: `attn_q, attn_k` becomes `attn_{q,k}`.

Only braces, no wildcards: the patterns name what they were made of, and no tensor of another model by accident.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

__all__ = ["braced", "is_plain"]

_PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.(?:[A-Za-z0-9_-]+|\*))*")
_TOKENS = re.compile(r"[^_.]+|[_.]")
_MOST = 100
"""Alternatives in one pattern."""


def is_plain(name: str) -> bool:
    """Say whether a name, as a pattern, means just itself."""
    return bool(_PLAIN.fullmatch(name)) and not name.endswith(".weight") and name != "head"


def braced(names: Sequence[str]) -> tuple[str, ...]:
    """Return patterns that mean just these plain names: names that differ in one word share a pattern.

    The patterns stand in the order of their first names.
    """
    words = {name: tuple(_TOKENS.findall(name)) for name in names}
    alike: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for name, split in words.items():
        for at, word in enumerate(split):
            if word not in "_.":
                alike.setdefault(((*split[:at], "", *split[at + 1 :]), at), []).append(name)
    place = {name: number for number, name in enumerate(names)}
    found: list[tuple[int, str]] = []
    left = dict.fromkeys(names)
    for (split, at), members in sorted(
        alike.items(), key=lambda it: (-len(it[1]), place[it[1][0]], it[0][1])
    ):
        free = [name for name in members if name in left]
        if len(free) < 2 or len(split) < 2:
            continue
        for _, group in groupby(enumerate(free), key=lambda it: it[0] // _MOST):
            part = [name for _, name in group]
            options = ",".join(words[name][at] for name in part)
            text = f"{{{options}}}" if len(part) > 1 else options
            found.append((place[part[0]], "".join((*split[:at], text, *split[at + 1 :]))))
        for name in free:
            del left[name]
    found += [(place[name], name) for name in left]
    return tuple(pattern for _, pattern in sorted(found))
