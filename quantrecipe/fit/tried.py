"""What a search on a text has tried, and what came of it: values, and the words for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quantrecipe.plain_data import significant

__all__ = ["Effort", "Search", "Tried", "search_text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How far a search may go. minutes: None for as long as it takes; clock: in seconds."""

    evaluations: int
    minutes: float | None = None
    clock: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One mix that was tried.

    what:     the mix, for people
    nbytes:   of the tensors' data
    expected: mean KL divergence, by the estimate
    kld:      by the engine, on the search text
    beside:   what it was compared with; "" for the first
    change, error: how much more than that it diverges, and the standard error of the difference
    within:   False for a question that is larger than the limits allow
    kept:     it took the place of the best mix so far
    """

    what: str
    nbytes: int
    expected: float
    kld: float
    beside: str
    change: float
    error: float
    within: bool
    kept: bool

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "mix": self.what,
            "data_nbytes": self.nbytes,
            "expected": significant(self.expected),
            "kld": significant(self.kld),
            "beside": self.beside or None,
            "change": significant(self.change),
            "standard_error": significant(self.error),
            "within_limits": self.within,
            "kept": self.kept,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What was tried, in this order.

    text:   names of the search texts
    best:   name of the mix that was found
    preset: name of the preset that diverges least; None where none keeps the limits
    kld, preset_kld, change, error: of both, and how much more the mix diverges, with its standard error
    ended:  why there is no more
    target: "kld" or "perplexity", where the smallest mix within it was looked for; "" where the best one was
    most, value: what the target allows, and what the mix has
    """

    text: str
    positions: int
    tried: tuple[Tried, ...]
    best: str
    kld: float
    preset: str | None
    preset_kld: float | None
    change: float
    error: float
    ended: str
    target: str = ""
    most: float = 0.0
    value: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "text": self.text,
            "positions": self.positions,
            "best": self.best,
            "kld": significant(self.kld),
            "best_stock": self.preset,
            "stock_kld": None if self.preset_kld is None else significant(self.preset_kld),
            "change": significant(self.change),
            "standard_error": significant(self.error),
            "ended": self.ended,
            "target": self.target or None,
            "most": self.most if self.target else None,
            "value": significant(self.value) if self.target else None,
            "tried": self.tried,
        }


def search_text(found: Search) -> str:
    said = (
        f"Tried on {found.text} ({found.positions:,} positions), {len(found.tried)} mixes: the best diverges by "
        f"{found.kld:.4g} (mean KL divergence)"
    )
    if found.preset is None or found.preset_kld is None:
        return f"{said}."
    apart = f"difference {found.change:+.2g} ± {found.error:.1g}"
    return (
        f"{said}, the preset {found.preset} by {found.preset_kld:.4g} ({apart}). `quantrecipe fit --verify` judges "
        "it on a text that nothing else saw."
    )
