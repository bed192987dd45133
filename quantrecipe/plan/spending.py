"""Spending: what became of a budget: how much of each limit is used, what is lost, and what more would buy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantrecipe.plain_data import fields_of, significant

__all__ = ["Spending", "Spent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """One limit of the budget, and what became of it.

    key:   what recipes call it: "size"
    most:  bytes that it allows; nanoseconds for a token, where it is "speed"
    used:  what of that is used
    more:  a bit more …
    gain:  … and how much less would then be lost
    """

    key: str
    most: int
    used: int
    more: int
    gain: float

    def to_json(self) -> dict[str, Any]:
        """What is printed of it: its fields, in this order."""
        return fields_of(self, "key", "most", "used", "more") | {"gain": significant(self.gain)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """What became of a budget: what is used, what is lost, and what more would buy.

    limits: in the order of the budget's keys
    loss:   what is lost by all tensors whose types were chosen: mean KL divergence, in nats, as far as it is known
    bound:  no choice within the limits loses less than this
    source: where the losses are from
    kld:    what may be lost, where that was the limit, and the smallest choice was taken
    losses: the loss of each tensor whose type was chosen, by its name
    """

    limits: tuple[Spent, ...]
    loss: float
    bound: float
    source: str
    losses: Mapping[str, float]
    kld: float | None = None

    @property
    def gap(self) -> float:
        """How much better another choice could be at most, as a share of the loss."""
        return (self.loss - self.bound) / self.loss if self.loss > self.bound else 0.0

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order; each loss stands beside its tensor."""
        return {
            "limits": self.limits,
            "loss": significant(self.loss),
            "gap": significant(self.gap, 3),
            "source": self.source,
            **({} if self.kld is None else {"kld": self.kld}),
        }
