"""Verdicts: two files beside each other, in figures and in words.

The change of the mean KL divergence decides, relative to the file that is compared with:

    below 3 % either way    the difference isn't worth a thought
    above 10 %              the worse file is to be done without
    between                 it is a real difference, and a small one

A verdict is given only where the whole interval of the change is on one side of these limits. Else the text is too
short for it; the interval narrows with the root of the text, and that says how much of it would be needed. Below the
engine's own noise no difference counts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from quantrecipe.evaluate.resampling import FEWEST_BLOCKS, Blocks, Drawn, Interval
from quantrecipe.evaluate.statistics import Evaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.evaluate.positions import Doubles, Positions
    from quantrecipe.evaluate.reference import Noise

__all__ = ["LARGE", "SMALL", "Bucket", "Intervals", "Pair", "Verdict", "compare_files", "intervals_of"]

SMALL = 0.03
"""A change of the mean divergence that isn't worth a thought."""
LARGE = 0.10
"""A change that is."""

_MOST_NEEDED = 100
"""Times the text beyond which "more text" is no advice."""
_TINY = 1e-12  # nats; what a file is from itself where nobody measured the noise

Verdict = Literal["same", "better", "slightly better", "slightly worse", "worse", "unknown", "noise"]
"""The file beside the one that it is compared with. same: less than `SMALL` apart; noise: less than the engine with
itself; unknown: the text is too short to say."""

_BY_PLACE: tuple[Verdict, ...] = ("better", "slightly better", "same", "slightly worse", "worse")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """The mean divergence at positions with so many tokens of context, first to last."""

    first: int
    last: int
    kld_mean: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """The figures of a file on all texts together, and its mean divergence in groups of positions, with intervals."""

    perplexity: Interval
    kld_mean: Interval
    kld_99: Interval
    kld_999: Interval
    top1: Interval
    by_text: Mapping[str, Interval]
    by_context: Sequence[Bucket]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A file beside the one that it is compared with. Changes are relative: 0.1 is a tenth more.

    kld_mean, kld_99, kld_999, perplexity: change
    top1:        share of agreement minus that of the other
    text_needed: how many times the text a verdict would take, where it is "unknown"; None where that can't be told
    """

    kld_mean: Interval
    kld_99: Interval
    kld_999: Interval
    perplexity: Interval
    top1: Interval
    verdict: Verdict
    text_needed: float | None


def intervals_of(positions: Positions, evaluation: Evaluation, drawn: Drawn, blocks: Blocks) -> Intervals:
    """The figures of a file with their intervals. evaluation: of all its positions."""
    of = blocks.interval
    by_text = _group_means(positions.divergence, blocks.text, len(blocks.texts))
    by_bucket = _group_means(positions.divergence, blocks.bucket, len(blocks.buckets))
    return Intervals(
        perplexity=of(evaluation.perplexity, np.exp(drawn.cost)),
        kld_mean=of(evaluation.kld_mean, drawn.kld),
        kld_99=_maybe(blocks, evaluation.kld_99, drawn.kld_99),
        kld_999=_maybe(blocks, evaluation.kld_999, drawn.kld_999),
        top1=of(evaluation.top1, drawn.top1),
        by_text={name: of(by_text[n], drawn.by_text[:, n]) for n, name in enumerate(blocks.texts)},
        by_context=[
            Bucket(first=first, last=last, kld_mean=of(by_bucket[n], drawn.by_bucket[:, n]))
            for n, (first, last) in enumerate(blocks.buckets)
            if not math.isnan(by_bucket[n])
        ],
    )


def compare_files(
    one: tuple[Evaluation, Drawn], other: tuple[Evaluation, Drawn], blocks: Blocks, noise: Noise | None
) -> Pair:
    """The first file beside the second, both on the same positions."""
    (figures, drawn), (base, base_drawn) = one, other
    # What is below the noise is no divergence, and a change relative to it would be none.
    floor = max(_TINY, noise.mean if noise is not None else 0.0)
    kld_mean = _changed(figures.kld_mean, base.kld_mean, drawn.kld, base_drawn.kld, floor, blocks)
    verdict, needed = _verdict(kld_mean, figures.kld_mean - base.kld_mean, blocks, noise)
    return Pair(
        kld_mean=kld_mean,
        kld_99=_changed(figures.kld_99, base.kld_99, drawn.kld_99, base_drawn.kld_99, floor, blocks),
        kld_999=_changed(figures.kld_999, base.kld_999, drawn.kld_999, base_drawn.kld_999, floor, blocks),
        perplexity=blocks.interval(
            figures.perplexity / base.perplexity - 1, np.expm1(drawn.cost - base_drawn.cost)
        ),
        top1=blocks.interval(figures.top1 - base.top1, drawn.top1 - base_drawn.top1),
        verdict=verdict,
        text_needed=needed,
    )


def _verdict(
    change: Interval, difference: float, blocks: Blocks, noise: Noise | None
) -> tuple[Verdict, float | None]:
    """What the change of the mean divergence says, and how many times the text would say it where this doesn't."""
    if noise is not None and abs(difference) <= noise.mean:
        return "noise", None
    if change.known is None:
        return "unknown", max(2.0, FEWEST_BLOCKS / blocks.count)
    low, high = change.known
    limits = (-math.inf, -LARGE, -SMALL, SMALL, LARGE, math.inf)
    place = bisect_right(limits, change.value) - 1
    under, over = limits[place], limits[place + 1]
    if under < low and high < over:
        return _BY_PLACE[place], None
    # The half that crosses a limit has to become shorter than the way to it; it goes with the root of the text.
    crossed = [(change.value - low, change.value - under)] if low <= under else []
    crossed += [(high - change.value, over - change.value)] if high >= over else []
    ratios = [half / way if way > 0 else math.inf for half, way in crossed]
    needed = max(ratios) ** 2
    return "unknown", needed if needed < _MOST_NEEDED else None


def _changed(
    value: float, base: float, draws: Doubles | None, base_draws: Doubles | None, floor: float, blocks: Blocks
) -> Interval:
    change = (value - base) / max(base, floor)
    if draws is None or base_draws is None:
        return Interval(value=change)
    return blocks.interval(change, (draws - base_draws) / np.maximum(base_draws, floor))


def _maybe(blocks: Blocks, value: float, draws: Doubles | None) -> Interval:
    return Interval(value=value) if draws is None else blocks.interval(value, draws)


def _group_means(values: Doubles, group: NDArray[np.int64], groups: int) -> list[float]:
    """The mean of each group; NaN where it has no position."""
    sums, counts = np.bincount(group, values, groups), np.bincount(group, minlength=groups)
    return [float(total / count) if count else math.nan for total, count in zip(sums, counts, strict=True)]
