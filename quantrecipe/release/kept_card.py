"""A model card that people go on writing: what is ours stands between two marks, and the rest stays as it is.

    ---
    license: apache-2.0                                   front matter: ours, until somebody edits it
    ---
    <!-- quantrecipe:begin body=1f3a… front=77c0… -->     digests of what we wrote
    …
    <!-- quantrecipe:end -->
    Anything here, or above the first mark, is the author's.

The digests tell whether somebody has edited our part since. Then it stays, and the difference is shown.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass

__all__ = ["MergedCard", "merge_card"]

_BEGIN = "<!-- quantrecipe:begin body={body} front={front} -->"
_END = "<!-- quantrecipe:end -->"
_MARKED = re.compile(
    r"<!-- quantrecipe:begin body=(?P<body>[0-9a-f]{16}) front=(?P<front>[0-9a-f]{16}) -->\n(?P<text>.*?)"
    + re.escape(_END),
    re.DOTALL,
)
_FRONT = re.compile(r"---\r?\n(?P<text>.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
_CONTEXT = 1  # lines around a difference


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedCard:
    """What the card becomes.

    kept:       True where the card stays as it is, since somebody has written or edited it
    kept_front: True where the front matter alone stays so
    diff:       what `force` would change, as a unified diff; "" where nothing is kept
    """

    text: str
    kept: bool = False
    kept_front: bool = False
    diff: str = ""


def merge_card(old: str | None, front: str, body: str, *, force: bool = False) -> MergedCard:
    """Put a new front matter and body into a card; old: as it is, None where there is none.

    front: YAML, a key a line; body: Markdown. force: replace what was edited; what stands outside the marks stays.
    """
    front, body = f"{front.strip()}\n", f"{body.strip()}\n"
    fresh = f"---\n{front}---\n\n{_marked(front, body)}\n"
    if old is None:
        return MergedCard(text=fresh)
    old = old.replace("\r\n", "\n")
    marked = list(_MARKED.finditer(old))
    if len(marked) != 1:
        if force:
            return MergedCard(text=fresh)
        return MergedCard(text=old, kept=True, diff=_diff(old, fresh))
    ours = marked[0]
    had_front = _FRONT.match(old)
    front_text = had_front["text"] if had_front else ""
    rest_start = had_front.end() if had_front else 0
    around = old[rest_start : ours.start()], old[ours.end() :]
    replaced = f"---\n{front}---\n{around[0]}{_marked(front, body)}{around[1]}"
    if force:
        return MergedCard(text=replaced)
    if _digest(ours["text"]) != ours["body"] and ours["text"] != body:
        return MergedCard(text=old, kept=True, diff=_diff(old, replaced))
    if _digest(front_text) != ours["front"] and front_text != front:
        kept = f"---\n{front_text}---\n" if had_front else ""
        text = f"{kept}{around[0]}{_marked(front, body)}{around[1]}"
        return MergedCard(text=text, kept_front=True, diff=_diff(text, replaced))
    return MergedCard(text=replaced)


def _marked(front: str, body: str) -> str:
    return f"{_BEGIN.format(body=_digest(body), front=_digest(front))}\n{body}{_END}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _diff(old: str, new: str) -> str:
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "README.md", "README.md (new)", lineterm="", n=_CONTEXT
    )
    return "\n".join(lines)
