"""Intervals by the bootstrap: what the figures might have been on other texts of the same kind.

Positions of one text aren't independent: what is hard in a paragraph stays hard in the next. So whole blocks are drawn,
with replacement, as many as there are: documents where a text has many, else its chunks. Each text keeps its number of
blocks. All files get the same draws, so that a figure of two files, such as the ratio of their divergences, is drawn
as a pair, and what both find hard cancels.

An interval holds 95 %. It is the expanded percentile interval: what few blocks hide of their spread is added back, by
the same factor that Student's t has for a mean (Hesterberg, What Teachers Should Know About the Bootstrap, 2015).
Draws come from raw words of PCG64, whose stream no version of numpy changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.evaluate.positions import Doubles, Positions
    from quantrecipe.evaluate.reference import Reference

    Ints = NDArray[np.int64]

__all__ = ["FEWEST_BLOCKS", "Blocks", "Drawn", "Interval", "blocks_of", "draw"]

FEWEST_BLOCKS = 10
"""With fewer, nothing is said of how sure a figure is: the spread of a handful of chunks is itself a guess."""

_DRAWS = 2000
_SEED = 0x5EED
_CONFIDENCE = 0.95
_FEWEST_ABOVE = 10
"""Positions above a quantile that has an interval: with fewer it hangs on single tokens."""
_AT_ONCE = 1 << 22  # numbers that are held at a time
_MOST_BUCKETS = 4
"""Parts of the scored half of a chunk: means of many are noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure and where it lies with 95 %. `low` and `high` are None where there is too little text to say."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> tuple[float, float] | None:
        """Both ends, where they are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Blocks:
    """How positions are drawn together, and the groups that they are shown in.

    block:   int64 (positions,): of each position
    stratum: int64 (blocks,): blocks are drawn among those of the same number
    texts:   the names of the texts; text: int64 (positions,), which one
    buckets: (first, last) token of context of each part of a chunk; bucket: int64 (positions,), which one
    """

    block: Ints
    stratum: Ints
    texts: tuple[str, ...]
    text: Ints
    buckets: tuple[tuple[int, int], ...]
    bucket: Ints

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return len(self.stratum)

    @property
    def freedom(self) -> int:
        """Degrees of freedom: one is lost to the mean of each stratum."""
        return self.count - len(np.unique(self.stratum))

    def interval(self, value: float, draws: Doubles) -> Interval:
        """A figure between the quantiles of what was drawn of it."""
        draws = draws[np.isfinite(draws)]
        if self.count < FEWEST_BLOCKS or not len(draws):
            return Interval(value=value)
        from scipy.special import stdtrit

        beyond = (1 - _CONFIDENCE) / 2
        spread = math.sqrt(self.count / self.freedom) * -float(stdtrit(self.freedom, beyond))
        share = NormalDist().cdf(-spread)
        low, high = (float(it) for it in np.quantile(draws, [share, 1 - share]))
        return Interval(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawn:
    """What was drawn of the figures of one file: float64 (draws,), or (draws, groups).

    cost:      mean of -ln q: ln of the perplexity
    kld, top1: means
    kld_99, kld_999: quantiles of the divergence; None where too few positions are above them
    by_text, by_bucket: mean divergence
    """

    cost: Doubles
    kld: Doubles
    top1: Doubles
    kld_99: Doubles | None
    kld_999: Doubles | None
    by_text: Doubles
    by_bucket: Doubles


def blocks_of(reference: Reference) -> Blocks:
    """The blocks of a reference's positions. A text with a single block is drawn together with the others."""
    chunk, context = reference.places
    chunk_text = np.repeat(np.arange(len(reference.texts)), [text.chunks for text in reference.texts])
    numbers = np.arange(reference.chunks) if reference.blocks is None else reference.blocks
    _, first, block = np.unique(numbers, return_index=True, return_inverse=True)
    stratum = chunk_text[first]
    if np.bincount(stratum).min() < 2:
        stratum = np.zeros_like(stratum)
    start = reference.n_ctx - reference.scored
    edges = np.linspace(start, reference.n_ctx, min(_MOST_BUCKETS, reference.scored) + 1).astype(int)
    return Blocks(
        block=block[chunk],
        stratum=stratum,
        texts=tuple(text.name for text in reference.texts),
        text=chunk_text[chunk],
        buckets=tuple((int(a), int(b) - 1) for a, b in pairwise(edges)),
        bucket=np.searchsorted(edges, context, side="right") - 1,
    )


def draw(positions: Positions, blocks: Blocks) -> Drawn:
    """The figures of a file on what is drawn: the same draws for every file."""
    nothing = np.zeros_like(blocks.block)
    values = np.stack([positions.cost, positions.divergence, positions.agrees])
    means = _means(values, nothing, 1, blocks)[:, :, 0]
    return Drawn(
        cost=means[0],
        kld=means[1],
        top1=means[2],
        kld_99=_quantiles(positions.divergence, 0.01, blocks),
        kld_999=_quantiles(positions.divergence, 0.001, blocks),
        by_text=_means(positions.divergence[None], blocks.text, len(blocks.texts), blocks)[0],
        by_bucket=_means(positions.divergence[None], blocks.bucket, len(blocks.buckets), blocks)[0],
    )


def _weights(blocks: Blocks, at_once: int) -> Iterator[Doubles]:
    """How often each block is drawn: float64 (some draws, blocks), until there are all draws."""
    members = [np.flatnonzero(blocks.stratum == number) for number in np.unique(blocks.stratum)]
    streams = [np.random.PCG64([_SEED, number]) for number in range(len(members))]
    done = 0
    while done < _DRAWS:
        some = min(at_once, _DRAWS - done)
        weights = np.zeros((some, blocks.count))
        for stream, those in zip(streams, members, strict=True):
            chosen = (stream.random_raw(some * len(those)) % len(those)).astype(np.int64).reshape(some, -1)
            flat = chosen + len(those) * np.arange(some)[:, None]
            weights[:, those] = np.bincount(flat.ravel(), minlength=some * len(those)).reshape(some, -1)
        yield weights
        done += some


def _means(values: Doubles, group: Ints, groups: int, blocks: Blocks) -> Doubles:
    """values: float64 (fields, positions) → their means in each group, float64 (fields, draws, groups)."""
    place = blocks.block * groups + group
    size = blocks.count * groups
    sums = [np.bincount(place, weights=row, minlength=size).reshape(-1, groups) for row in values]
    counts = np.bincount(place, minlength=size).reshape(-1, groups).astype(float)
    found: list[Sequence[Doubles]] = []
    with np.errstate(invalid="ignore"):  # a group that nothing was drawn of: `interval` leaves it out
        for weights in _weights(blocks, max(1, _AT_ONCE // blocks.count)):
            total = weights @ counts
            found.append([weights @ row / total for row in sums])
    return np.concatenate(found, axis=1)


def _quantiles(values: Doubles, above: float, blocks: Blocks) -> Doubles | None:
    """What a share `above` of the positions drawn is larger than: float64 (draws,)."""
    if above * len(values) < _FEWEST_ABOVE:
        return None
    order = np.argsort(-values, kind="stable")
    sizes = np.bincount(blocks.block, minlength=blocks.count).astype(float)
    found = []
    most = min(len(values), int(4 * above * len(values)) + 1)
    for weights in _weights(blocks, max(1, _AT_ONCE // max(most, blocks.count))):
        wanted, kept = above * (weights @ sizes), most
        while True:
            drawn = np.cumsum(weights[:, blocks.block[order[:kept]]], axis=1)
            if kept == len(values) or (drawn[:, -1] >= wanted).all():
                break
            kept = min(len(values), 4 * kept)
        found.append(values[order[(drawn < wanted[:, None]).sum(axis=1)]])
    return np.concatenate(found)
