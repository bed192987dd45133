"""The problem: one option for each item, every limit kept, at the least cost. And what solves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Item", "Limit", "Option", "Solution"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One of the ways that are open to an item.

    cost: what is lost by it; finite
    uses: what it takes of each limit, in the order of the limits; not negative
    """

    name: str
    cost: float
    uses: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A tensor, or several that are treated alike, and the ways that are open to it."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """No more than `most` of something may be used."""

    name: str
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """The best choice, and how sure it is that there is none better.

    choices: the number of the chosen option of each item
    cost:    the sum of their costs
    bound:   no choice within the limits costs less than this
    uses:    what is used of each limit
    prices:  what one unit more of each limit would save at the margin (of the relaxed problem)
    """

    choices: tuple[int, ...]
    cost: float
    bound: float
    uses: tuple[int, ...]
    prices: tuple[float, ...]

    @property
    def gap(self) -> float:
        """How much better another choice could be at most, as a share of the cost; 0 where none is better."""
        return (self.cost - self.bound) / self.cost if self.cost > self.bound else 0.0

    def names(self, items: Sequence[Item]) -> list[str]:
        """The name of the option that was chosen for each item."""
        return [item.options[choice].name for item, choice in zip(items, self.choices, strict=True)]
