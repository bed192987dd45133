"""Mixed: what a whole mix does to the output, by blocks of the text, so that two mixes can be compared in pairs.

What is hard for one mix is hard for another, so their difference is far surer than each figure by itself. Positions of
one block (a chunk, or a document) aren't independent; blocks are drawn, as in `evaluate.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.evaluate import Blocks, Positions
from quantrecipe.sensitivity.sensitivity import rounded
from quantrecipe.typed import Finite, Positive, typed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Mixed", "line_of_mix", "mix_of_line", "mixed", "paired"]

_DIGITS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixed:
    """One pass over the text with the types of a mix in the resident model.

    key:        XXH3-128 of all that it depends on: weights, encodings, text, resident type
    what:       the mix, for people
    resident:   the type of all that the mix leaves alone
    counts:     positions of each block
    divergence: sum of the KL divergences of each block, in nats
    cost:       sum of -ln p of the text's own tokens
    """

    key: str
    what: str
    resident: str
    counts: tuple[Positive, ...]
    divergence: tuple[Finite, ...]
    cost: tuple[Finite, ...]

    def __post_init__(self) -> None:
        """ValueError for blocks of which something is missing."""
        if not len(self.counts) == len(self.divergence) == len(self.cost) > 0:
            raise ValueError("counts, divergence and cost are of different blocks")

    @property
    def positions(self) -> int:
        """How many there are in all blocks."""
        return sum(self.counts)

    @property
    def kld(self) -> float:
        """Mean KL divergence, in nats."""
        return math.fsum(self.divergence) / self.positions

    @property
    def mean_cost(self) -> float:
        """Logarithm of the perplexity."""
        return math.fsum(self.cost) / self.positions

    @property
    def standard_error(self) -> float:
        """Of `kld`, from the spread over blocks."""
        return _error(np.array(self.divergence), self.counts)


def mixed(key: str, what: str, resident: str, positions: Positions, blocks: Blocks) -> Mixed:
    """The sums of each block."""
    sums = [
        np.bincount(blocks.block, weights=values, minlength=blocks.count)
        for values in (positions.divergence, positions.cost)
    ]
    counts = np.bincount(blocks.block, minlength=blocks.count)
    return Mixed(
        key=key,
        what=what,
        resident=resident,
        counts=tuple(int(count) for count in counts),
        divergence=tuple(rounded(float(value), _DIGITS) for value in sums[0]),
        cost=tuple(rounded(float(value), _DIGITS) for value in sums[1]),
    )


def paired(one: Mixed, other: Mixed) -> tuple[float, float]:
    """How much more one diverges than the other, mean over positions, and the standard error of that."""
    apart = np.array(one.divergence) - np.array(other.divergence)
    return float(apart.sum()) / one.positions, _error(apart, one.counts)


def line_of_mix(found: Mixed) -> dict[str, Any]:
    """As it stands in journals."""
    return asdict(found)


def mix_of_line(line: Mapping[str, Any]) -> Mixed:
    """The same, read again. ValueError for what is none."""
    return typed(line, Mixed)


def _error(sums: NDArray[np.float64], counts: tuple[int, ...]) -> float:
    """Standard error of Σ sums / Σ counts, blocks being drawn; infinite for a single block."""
    if len(counts) < 2:
        return math.inf
    rest = sums - sums.sum() / sum(counts) * np.array(counts)
    return math.sqrt(float(rest @ rest) * len(counts) / (len(counts) - 1)) / sum(counts)
