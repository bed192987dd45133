"""What to know about texts before work begins on them: sentences with stable codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantrecipe.texts.documents import Domain

__all__ = ["Caution", "cautions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caution:
    """code: "samples" or "weights", which don't change; what: a sentence; remedy: what to do, or ""."""

    code: str
    what: str
    remedy: str = ""


def cautions(domains: Sequence[Domain]) -> list[Caution]:
    """What may be wrong with domains that are used together."""
    raise NotImplementedError
