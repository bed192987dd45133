"""Documents in parts that have nothing in common, and what two domains have in common all the same.

A document's part is decided by a hash of its content and nothing else: it stays there when others are added or taken
away, and its copies go with it. A long text is divided into passages first, between paragraphs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from quantrecipe.texts.documents import Document, Domain

__all__ = ["Overlap", "json_lines_of", "overlap", "passages", "split"]

_HASH_BYTES = 8
_WORST = 5
_PASSAGE = 4000  # characters: about a thousand tokens, two contexts of the usual length


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What share of a domain's n-grams of words occur in another domain.

    share: of the n-grams of all documents, 0 to 1; each counts as often as it occurs
    worst: the documents with the largest shares above 0, the largest first: place and share
    """

    share: float
    worst: tuple[tuple[str, float], ...]


def split(
    documents: Iterable[Document], shares: tuple[int, int, int] = (80, 10, 10)
) -> tuple[tuple[Document, ...], tuple[Document, ...], tuple[Document, ...]]:
    """Three parts by a hash of each document's content, so that a document is always in the same part.

    The shares hold on average: of few documents, a part may have none. ValueError where they aren't shares.
    """
    total = sum(shares)
    if min(shares) < 0 or total <= 0:
        raise ValueError(f"{shares} are no shares: expected numbers of 0 and more, not all of them 0")
    first, second = shares[0], shares[0] + shares[1]
    parts: tuple[list[Document], list[Document], list[Document]] = ([], [], [])
    for document in documents:
        at = _hash(_content(document)) * total >> (8 * _HASH_BYTES)
        parts[0 if at < first else 1 if at < second else 2].append(document)
    return tuple(parts[0]), tuple(parts[1]), tuple(parts[2])


def passages(document: Document) -> list[Document]:
    """A long plain text in passages of a thousand tokens or so, each of whole paragraphs; any other document as it is.

    Where a passage ends depends on the text near it alone (a hash of the paragraph), so that what is added at one end
    leaves the passages at the other as they are.
    """
    if document.text is None or document.answers or len(document.text) <= _PASSAGE:
        return [document]
    parts, begun = list[str](), 0
    for paragraph in re.finditer(r".+?(?:\n\s*\n|\Z)", document.text, re.DOTALL):
        length = paragraph.end() - begun
        ends = _hash(paragraph[0].encode("utf-8", "surrogateescape")) % 4 == 0
        if length >= 2 * _PASSAGE or (length >= _PASSAGE and ends):
            parts.append(document.text[begun : paragraph.end()])
            begun = paragraph.end()
    if begun < len(document.text):
        parts.append(document.text[begun:])
    return [
        replace(document, text=text, place=f"{document.place}, passage {number}")
        for number, text in enumerate(parts, 1)
    ]


def json_lines_of(documents: Iterable[Document]) -> str:
    """Documents as JSON lines, in the shapes that `read_domain` reads."""
    return "".join(f"{json.dumps(_plain(document), ensure_ascii=False)}\n" for document in documents)


def _plain(document: Document) -> dict[str, Any]:
    if document.text is not None:
        if len(document.answers) == 1:
            data, (start, end) = document.text.encode("utf-8", "surrogateescape"), document.answers[0]
            if end == len(data):
                parts = data[:start], data[start:]
                prompt, completion = (part.decode("utf-8", "replace") for part in parts)
                return {"prompt": prompt, "completion": completion}
        return {"text": document.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")}
    keys = {"reasoning": "reasoning_content"}
    messages = [
        {
            keys.get(name, name): value
            for name, value in asdict(message).items()
            if value or name in ("role", "content")
        }
        for message in document.messages
    ]
    return {"messages": messages} | ({"tools": list(document.tools)} if document.tools else {})


def overlap(a: Domain, b: Domain, n: int = 12) -> Overlap:
    """What share of b's n-grams of words occur in a. Words are compared without case; a shorter text has none."""
    known = {gram for document in a.documents for gram in _grams(document, n)}
    common, total = 0, 0
    shares: list[tuple[str, float]] = []
    for document in b.documents:
        found = [gram in known for gram in _grams(document, n)]
        common, total = common + sum(found), total + len(found)
        if any(found):
            shares.append((document.place, sum(found) / len(found)))
    worst = sorted(shares, key=lambda pair: -pair[1])[:_WORST]
    return Overlap(share=common / total if total else 0.0, worst=tuple(worst))


def _content(document: Document) -> bytes:
    """All that a document says, without its place."""
    if document.text is not None:
        return b"text " + document.text.encode("utf-8", "surrogateescape")
    # Without what is empty, so that a message stays the same when messages get more fields.
    messages = [{key: value for key, value in asdict(it).items() if value} for it in document.messages]
    return b"chat " + json.dumps([messages, document.tools], sort_keys=True).encode()


def _grams(document: Document, n: int) -> Iterator[int]:
    """Hashes of all runs of n words, of a text as a whole or of each message."""
    texts = [document.text] if document.text is not None else [it.content for it in document.messages]
    for text in texts:
        words = text.lower().encode("utf-8", "surrogateescape").split()
        for start in range(len(words) - n + 1):
            yield _hash(b" ".join(words[start : start + n]))


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=_HASH_BYTES).digest(), "little")
