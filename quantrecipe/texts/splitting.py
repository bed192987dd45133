"""Documents in parts that have nothing in common, and what two domains have in common all the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantrecipe.texts.documents import Document, Domain

__all__ = ["Overlap", "overlap", "split"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What share of a domain's n-grams of words occur in another domain.

    share: of the n-grams of all documents, 0 to 1
    worst: the documents with the largest shares above 0, by place
    """

    share: float
    worst: tuple[tuple[str, float], ...]


def split(
    documents: Iterable[Document], shares: tuple[int, int, int] = (80, 10, 10)
) -> tuple[tuple[Document, ...], tuple[Document, ...], tuple[Document, ...]]:
    """Three parts by a hash of each document's content, so that a document is always in the same part."""
    raise NotImplementedError


def overlap(a: Domain, b: Domain, n: int = 12) -> Overlap:
    """What share of b's n-grams of words occur in a."""
    raise NotImplementedError
