"""What a model says at each position, beside what the reference says: costs, divergence, agreement.

The definitions are llama-perplexity's (`--kl-divergence`): the divergence is Σ p ln(p/q) with p the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from quantrecipe.evaluate.compact import log_normalisers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.evaluate.compact import CompactRows

    Doubles = NDArray[np.float64]

__all__ = ["Positions", "compare"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Positions:
    """Scored positions, in the order of the text; float64 (positions,) each.

    cost:           -ln q of the text's own next token
    reference_cost: -ln p of it
    divergence:     Σ p ln(p/q) over the vocabulary
    agrees:         1 where both hold the same token for the likeliest, else 0
    """

    cost: Doubles
    reference_cost: Doubles
    divergence: Doubles
    agrees: Doubles

    def __len__(self) -> int:
        return len(self.cost)

    def __getitem__(self, part: slice) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[part] for field in fields(self)})

    def stacked(self) -> Doubles:
        """Put all fields into one array, float64 (fields, positions)."""
        return np.stack([getattr(self, field.name) for field in fields(self)])

    @classmethod
    def from_stacked(cls, stacked: Doubles) -> Self:
        """Make positions of an array that `stacked` made."""
        return cls(**{field.name: row for field, row in zip(fields(cls), stacked, strict=True)})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put parts one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def compare(logits: NDArray[np.float32], targets: NDArray[np.int32], reference: CompactRows) -> Positions:
    """logits: float32 (rows, vocabulary) of the model; targets: the text's next token of each row."""
    rows = np.arange(len(logits))
    normaliser = log_normalisers(logits)
    log_q = logits[reference.mask] - np.repeat(normaliser, reference.mask.sum(axis=1))
    starts = reference.starts
    p = np.exp(reference.values.astype(np.float64))
    # Rounding changed the sum of the kept tokens; scaled back to the mass that they have, it matters only squared.
    left = reference.tail.astype(np.float64)
    scale = (1 - left) / np.add.reduceat(p, starts)
    head = scale * np.add.reduceat(p * (reference.values - log_q), starts) + (1 - left) * np.log(scale)
    seen = head + _tail(left, 1 - np.add.reduceat(np.exp(log_q), starts))
    return Positions(
        cost=normaliser - logits[rows, targets],
        reference_cost=reference.cost.astype(np.float64),
        divergence=seen * _unseen(left, scale**2 * np.add.reduceat(p * p, starts)),
        agrees=(logits.argmax(axis=1) == reference.best).astype(np.float64),
    )


def _unseen(left: Doubles, squares: Doubles) -> Doubles:
    """What the divergence is to be multiplied by, for what isn't seen within the tail.

    Where logits are off by independent amounts of variance v, the divergence is v/2 (1 - Σ p²) to second order; with
    the tail as one token, whose amounts cancel, the tail's mass is missing from it. At most 2.
    """
    return 1 + left / np.maximum(1 - left - squares, 1e-12)


def _tail(p: Doubles, q: Doubles) -> Doubles:
    """p ln(p/q) of what is left; a model that leaves nothing for it is held to what single precision can tell."""
    q = np.maximum(q, 1e-12)
    return np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / q), 0.0)
