"""What two models did with the same cases: shares and means with intervals of 95 %, and those of their difference.

right or wrong    share with Wilson's interval; difference of paired shares by Bonett and Price (2012), and the
                  exact test of McNemar, which looks at the cases in which the two differ
a number each     mean with Student's interval; of two models, that of the differences
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from quantrecipe.evaluate.resampling import FEWEST_BLOCKS, Interval

__all__ = ["PairedShare", "mean_interval", "paired_mean", "paired_share"]

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedShare:
    """One model's cases beside another's.

    gained: that only the first has right; lost: that only the other has
    change: of the share that is right
    p:      how likely so uneven a split of those is if the two are equally good (McNemar, exact, two-sided)
    """

    gained: int
    lost: int
    change: Interval
    p: float


def paired_share(ours: Sequence[bool], theirs: Sequence[bool]) -> PairedShare:
    """Compare which of the same cases are right. ValueError where they aren't as many."""
    pairs = list(zip(ours, theirs, strict=True))
    gained = sum(a and not b for a, b in pairs)
    lost = sum(b and not a for a, b in pairs)
    return PairedShare(
        gained=gained, lost=lost, change=_change(gained, lost, len(pairs)), p=_mcnemar(gained, lost)
    )


def _change(gained: int, lost: int, total: int) -> Interval:
    """The difference of two paired shares: Wald's interval, with one case added to each kind that differs."""
    if not total:
        return Interval(value=0.0)
    better, worse = (gained + 1) / (total + 2), (lost + 1) / (total + 2)
    middle = better - worse
    half = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * math.sqrt((better + worse - middle**2) / (total + 2))
    return Interval(value=(gained - lost) / total, low=max(-1.0, middle - half), high=min(1.0, middle + half))


def _mcnemar(gained: int, lost: int) -> float:
    count = gained + lost
    fewer = sum(math.comb(count, number) for number in range(min(gained, lost) + 1))
    return float(min(1.0, 2 * fewer / 2**count))


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean, with Student's interval where there are enough values to say how sure it is."""
    if not values:
        return Interval(value=0.0)
    mean = fmean(values)
    if len(values) < FEWEST_BLOCKS:
        return Interval(value=mean)
    from scipy.special import stdtrit  # only where something is evaluated

    half = -float(stdtrit(len(values) - 1, (1 - _CONFIDENCE) / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(value=mean, low=mean - half, high=mean + half)


def paired_mean(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The mean of the differences. ValueError where they aren't as many."""
    return mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])
